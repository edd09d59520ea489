"""Learning to learn: agents that are trained on a family of tasks, and adapt to a new one within a few episodes."""
