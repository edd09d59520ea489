"""Value-based methods: a network for Q(s, a), and the action with the largest value.

For discrete actions, where samples are dear: each transition is learned from many times. `DQN`, which has double
targets, is the first to try; `Rainbow` learns from fewer steps, with more work in each. `C51`, `QRDQN` and `IQN` learn
the distribution of returns; `DRQN` and `R2D2` remember, for what one observation does not show. All of them are `DQN`
with other fields, which go together in any way that `check` does not refuse.
"""
