"""Methods for recorded episodes: nothing is played while they learn, but to evaluate.

`BC` imitates what was done, and wants good examples. Off-policy algorithms (`DQN`, `SAC`) learn from datasets too,
without what would keep them from actions that no example shows.
"""
