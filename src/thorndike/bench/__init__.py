"""Learning measured beside published results: rows of a table, how one is run, and what is said of it."""
