"""The field `auxiliary` of an algorithm: one loss on a torso's features or several, of this package or one's own.

A loss is a `@td.config` value with two methods. `build(key, features, spec)` makes its layers above `features` numbers,
a pytree of float arrays; `loss(layers, torso, steps)` is a scalar, times the weight that it is to have beside the
algorithm's own loss, and a dict of metrics, whose names the algorithm's own go before. `torso(obs)` are features
[..., F], and `steps` a `Told`. With a method `supports(spec)` it says, as algorithms do, what it cannot read.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from thorndike.configuration import Inner, check, is_config, require
from thorndike.nets.auxiliary import InverseDynamics, Reconstruction, RewardPrediction, SelfPrediction, Told
from thorndike.ops.losses import Added
from thorndike.types import Array, Metrics, PyTree, Spec

Auxiliary = RewardPrediction | SelfPrediction | InverseDynamics | Reconstruction | Inner | tuple[Inner, ...]
METHODS = {"build": "build(key, features, spec)", "loss": "loss(layers, torso, steps)"}


def each(auxiliary: Auxiliary | None) -> tuple[Any, ...]:
    """The losses, none, one or several."""
    if auxiliary is None:
        return ()
    return auxiliary if isinstance(auxiliary, tuple) else (auxiliary,)


def check_losses(auxiliary: Auxiliary | None, where: str) -> None:
    """Raise `ConfigError` where a value in the field `where` is no loss."""
    require(auxiliary != (), f"{where} is empty: leave it out, or name a loss")
    for one in each(auxiliary):
        kind = one.__name__ if isinstance(one, type) else type(one).__name__
        require(not isinstance(one, type), f"{where} takes values: write {kind}() and not {kind}")
        require(is_config(one), f"{where} takes values of @td.config classes, got {one!r}")
        check(one, f"{where} {kind}")
        for method, spelled in METHODS.items():
            there = callable(getattr(one, method, None))
            require(there, f"{where} takes losses with build and loss: {kind} has no method {spelled}")


def misfit(auxiliary: Auxiliary | None, spec: Spec) -> str | None:
    """None where all losses can read such observations and actions, else one sentence."""
    said = (one.supports(spec) for one in each(auxiliary) if hasattr(one, "supports"))
    return next((problem for problem in said if problem), None)


def layers(auxiliary: Auxiliary | None, key: Array, network: Any, spec: Spec) -> PyTree:
    """What the losses have above the torso of a network: a tuple for several, () without any."""
    features = below(network).features
    if isinstance(auxiliary, tuple):
        keys = jax.random.split(key, len(auxiliary))
        return tuple(one.build(k, features, spec) for one, k in zip(auxiliary, keys))
    return () if auxiliary is None else auxiliary.build(key, features, spec)


def losses(auxiliary: Auxiliary, layers: PyTree, torso: Any, steps: Told) -> tuple[Array, Metrics]:
    """The sum of all losses and their metrics; of several those of the i-th end in `_i`."""
    if not isinstance(auxiliary, tuple):
        return answered(auxiliary, layers, torso, steps)
    total, metrics = jnp.float32(0), Metrics()
    for i, (one, its) in enumerate(zip(auxiliary, layers)):
        error, said = answered(one, its, torso, steps)
        total, metrics = total + error, metrics | {f"{name}_{i}": value for name, value in said.items()}
    return total, metrics


def answered(one: Any, layers: PyTree, torso: Any, steps: Told) -> tuple[Array, Metrics]:
    """One loss and its metrics; raises `ConfigError` where it answers something else."""
    answer = one.loss(layers, torso, steps)
    pair = isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)
    shape = jnp.shape(answer[0]) if pair else None
    found = "something else" if shape is None else f"a loss of shape {list(shape)}"
    due = "has to return a scalar and a dict of metrics, such as error.mean(), {}"
    require(shape == (), f"{type(one).__name__}.loss {due}: it returned {found}")
    return answer


def taught(auxiliary: Auxiliary | None, steps: Told) -> tuple[Added, ...]:
    """The losses of a policy's torso as one that is added to another, with their layers beside θ; nothing without."""

    def loss(params: Any, layers: Any, pi: Any, rows: Told) -> tuple[Array, Metrics]:
        return losses(auxiliary, layers, below(params.policy.torso), rows)

    return () if auxiliary is None else (Added(loss, steps),)


def below(network: Any) -> Any:
    """The torso below the memory of a network that remembers, or the network itself."""
    return network.torso if hasattr(network, "after") else network
