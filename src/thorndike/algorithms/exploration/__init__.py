"""Exploration for its own sake: methods that first find what can be reached, and how."""
