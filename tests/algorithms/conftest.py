"""What of the generated tests the default suite runs.

The core algorithms are held to all of them. Of any other, the default suite asks that it is registered, learns, goes on
from a checkpoint bit for bit, and tells truncation from termination; the rest, with the probes' values of endings, is
slow. Algorithms that only have other defaults than another are slow altogether, and so are further cases but for DQN's
and PPO's.
"""

from inspect import isfunction

import pytest
from cases import ALL

CORE = ("q-learning", "sarsa", "dqn", "ppo", "sac", "alphazero", "bc")
FIRST = (
    "test_registration",
    "test_settings_survive_json",
    "test_structure_and_metrics",
    "test_chunks_seeds_and_checkpoints",
    "test_the_clock_is_not_the_task",
)
KEPT = ("rainbow", "droq", "ppo-kl")  # so much is switched on in these that no other case has it
SAME = ("a3c",)  # without actors, as its small cases are, it is another one


def only_defaults(name):
    """Whether an algorithm's class is another one with other fields, and no method of its own."""
    cls = type(ALL[name][0])
    own = (value for name, value in vars(cls).items() if not name.startswith("__"))
    return cls.__base__ is not object and not any(isfunction(x) or isinstance(x, property) for x in own)


NAMES = {name.split()[0] for name in ALL}
VARIANTS = {name for name in NAMES if only_defaults(name)} - set(KEPT) | set(SAME)


def is_slow(function, parameters):
    """Whether a test of these parameters is left to the slow suite."""
    for name in parameters:
        kind = name.split()[0] if name in ALL or name in NAMES else None
        if kind is None or function in FIRST[:2]:
            continue
        if kind in VARIANTS or (" " in name and kind not in ("dqn", "ppo")):
            return True
        if kind not in CORE and function not in FIRST:
            return True
    return False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        given = getattr(item, "callspec", None)
        words = [x for x in given.params.values() if isinstance(x, str)] if given else []
        if is_slow(item.originalname, words):
            item.add_marker(pytest.mark.slow)
