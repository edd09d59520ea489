"""Transfer: what one agent has learned, taught to another."""
