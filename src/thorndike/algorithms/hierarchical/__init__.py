"""Hierarchical methods: decisions that last for several steps, and others below them for each step.

`OptionCritic` learns options, policies that say themselves when they end, by the gradient of the return. `FeudalQ` has
a table that commands which block of a grid to enter, and another that learns to obey. `HIRO` does the same with
networks and continuous goals: a manager sets a point to reach, and a worker is paid for coming near.
"""
