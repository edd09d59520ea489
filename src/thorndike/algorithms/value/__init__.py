"""Value-based methods: a network for Q(s, a), and the action with the largest value.

For discrete actions, where samples are dear: each transition is learned from many times. `DQN` with `double=True` is
the first to try; with a `core` it remembers, for what one observation does not show.
"""
