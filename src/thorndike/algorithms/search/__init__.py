"""Methods that look ahead: a search through the game, guided by a network that learns from what the search finds.

For games of two players whose rules can be compiled. `AlphaZero` learns from games against itself.
"""
