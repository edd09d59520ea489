"""Names that people type: the nearest right one for a wrong one. Imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that looks most like `word`, case aside; None if none does."""
    lowered = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.5)
    return lowered[near[0]] if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the nearest option, or an empty string."""
    near = nearest(word, options)
    return f" (did you mean {near!r}?)" if near else ""
