"""Thorndike: deep reinforcement learning in JAX."""
