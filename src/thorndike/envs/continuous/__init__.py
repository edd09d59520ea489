"""Tasks with continuous observations and actions that are none of Gymnasium's."""
