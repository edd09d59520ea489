"""Algorithms that only have other defaults than another are slow tests: what that one is held to holds for them."""

from inspect import isfunction

import pytest
from cases import ALL

KEPT = ("rainbow", "droq", "ppo-kl")  # so much is switched on in these that no other case has it
BOTH = ("dqn", "ppo")  # whose cases are all in the default suite; of others only the first is


def only_defaults(name):
    """Whether an algorithm's class is another one with other fields, and no method of its own."""
    cls = type(ALL[name][0])
    own = (value for name, value in vars(cls).items() if not name.startswith("__"))
    return cls.__base__ is not object and not any(isfunction(x) or isinstance(x, property) for x in own)


SAME = ("a3c",)  # without actors, as its small cases are, it is another one
VARIANTS = {name.split()[0] for name in ALL if only_defaults(name)} - set(KEPT) | set(SAME)
SLOW = {name for name in ALL if name.split()[0] in VARIANTS or (" " in name and name.split()[0] not in BOTH)} | VARIANTS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters and any(isinstance(x, str) and x in SLOW for x in parameters.params.values()):
            item.add_marker(pytest.mark.slow)
