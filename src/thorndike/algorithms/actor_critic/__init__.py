"""Off-policy actor-critic methods: a policy that climbs a learned Q(s, a).

For continuous actions, where samples are dear: each transition is learned from many times. `SAC` explores by the
entropy that its objective asks for, and needs little tuning.
"""
