"""Processes to be controlled: setpoints to follow, and disturbances to reject."""
