"""Runs: training them, what their folders hold, and what one does with them."""
