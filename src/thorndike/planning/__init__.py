"""Planning with a model: dynamic programming on tables, and optimisation of action sequences.

Pure functions and values: no drivers, no files. `dynamic_programming` solves finite Markov decision processes in NumPy,
`shooting` improves sequences of continuous actions by sampling, `turns` steps games of two players, `puct` searches in
them, `simulator` lets an algorithm's state hold the environment that it plans with.
"""
