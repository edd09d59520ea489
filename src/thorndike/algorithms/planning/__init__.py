"""Planning with the environment's own model: nothing is learned from experience.

`ValueIteration` and `PolicyIteration` solve environments with finitely many states whose transition probabilities are
known; `MPC` optimises the next actions in a simulator of the environment, at every step anew.
"""
