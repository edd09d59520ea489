"""Methods that look ahead: a search guided by a network that learns from what the search finds.

`AlphaZero` searches through games of two players whose rules can be compiled, and learns from games against itself.
`MuZero` searches in a model that it learns, of a task or of a game.
"""
