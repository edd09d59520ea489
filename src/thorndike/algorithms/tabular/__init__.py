"""Tabular methods: a number for each state and action, where both can be counted.

For small, discrete worlds, and as the yardstick for what follows: their values can be held against dynamic
programming. `QLearning` learns the greedy policy while it explores; `SARSA` learns what its own exploration is worth,
and so stays away from cliffs; `ExpectedSARSA` is SARSA without the noise of the next action.
"""
