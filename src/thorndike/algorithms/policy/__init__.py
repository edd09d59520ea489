"""Policy-gradient methods: a network for π(a | s), improved on what it has just done itself.

For any kind of action, and where samples are cheap: each rollout is learned from and thrown away. `PPO` is the first
to try on a new problem; with a `core` it remembers.
"""
