"""Every algorithm by name. Importing this imports none of them."""

from __future__ import annotations

import importlib
from typing import Any

ALGORITHMS = {  # name on the command line: (module, class, one line)
    "q-learning": ("tabular.td_control", "QLearning", "tabular Q-learning"),
    "sarsa": ("tabular.td_control", "SARSA", "tabular SARSA"),
    "expected-sarsa": ("tabular.td_control", "ExpectedSARSA", "tabular Expected SARSA"),
    "dqn": ("value.dqn", "DQN", "deep Q-network, with double targets as a field"),
    "ppo": ("policy.ppo", "PPO", "proximal policy optimisation with GAE"),
    "alphazero": ("search.alphazero", "AlphaZero", "AlphaZero with Gumbel search, for games of two players"),
    "bc": ("offline.bc", "BC", "behavioural cloning, from a dataset"),
    "sac": ("actor_critic.sac", "SAC", "soft actor-critic, twin critics, automatic temperature"),
}


def algorithm_class(name: str) -> Any:
    """The class of an algorithm, by its name on the command line or its class name; raises `UnknownNameError`."""
    from thorndike.errors import UnknownNameError
    from thorndike.names import did_you_mean

    simple = {key.replace("-", ""): key for key in ALGORITHMS}
    key = simple.get(name.lower().replace("-", "").replace("_", ""))
    if key is None:
        raise UnknownNameError(
            f"no algorithm {name!r}{did_you_mean(name, ALGORITHMS)}; there are {', '.join(ALGORITHMS)}"
        )
    module, cls, _ = ALGORITHMS[key]
    return getattr(importlib.import_module(f"thorndike.algorithms.{module}"), cls)


def known_configs(classes: Any = ()) -> dict[str, type]:
    """Every config class that a saved run may name: ours, and those given."""
    from thorndike.configuration import type_name
    from thorndike.memory.replay import Uniform
    from thorndike.memory.sequences import Sequences
    from thorndike.nets.recurrent import GRU, LSTM
    from thorndike.nets.torso import Torso
    from thorndike.ops.exploration import Epsilon, Softmax

    classes = [classes] if isinstance(classes, type) else classes
    own = [algorithm_class(name) for name in ALGORITHMS]
    return {type_name(cls): cls for cls in [Uniform, Sequences, Torso, GRU, LSTM, Epsilon, Softmax, *own, *classes]}
