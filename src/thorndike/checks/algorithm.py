"""The contract of algorithms, tried on a small environment."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.checks.answers import check_decorated, check_methods
from thorndike.checks.report import Report
from thorndike.choosing import serves
from thorndike.configuration import check as check_fields
from thorndike.configuration import from_json, to_json, types_in, untyped
from thorndike.drivers.host import HostDriver
from thorndike.drivers.learner import warm_iterations
from thorndike.drivers.scan import ScanDriver
from thorndike.envs import make
from thorndike.exports import known_configs
from thorndike.ops.keys import random_key
from thorndike.runs.storage.arrays import to_arrays
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.validation import check_algorithm as check_parts
from thorndike.types import PyTree

PLACES = ("CartPole-v1", "Pendulum-v1", "CliffWalking-v1", "pgx/tic_tac_toe")
ITERATIONS = 4
CONSTANTS = ("num_envs", "rollout_length", "replay_ratio", "offline", "players", "counts_visits")  # may have no type


def check_algorithm(algorithm: Any) -> Report:
    """Ask an algorithm what `Algorithm` in `thorndike.types` promises; see `td.check`."""
    report = Report(type(algorithm).__name__)
    report.ask("its class has @td.config", lambda: check_decorated(algorithm))
    if not report.ask("it has the methods and fields that drivers use", lambda: check_parts(algorithm)):
        return report
    report.ask("its fields have the types and ranges that they are annotated with", lambda: check_fields(algorithm))
    report.ask("its settings can be saved as JSON and read back", lambda: _json(algorithm))
    cls = type(algorithm)
    names = [name for name in vars(cls) if not name.startswith("_") and name not in CONSTANTS]
    report.advice += [why for name in names if (why := untyped(cls, name))]
    if getattr(algorithm, "offline", False):
        report.advice.append("an offline algorithm is tried by training it on a dataset: td.train(..., dataset=...)")
        return report
    found = [(name, make(name)) for name in PLACES if _suits(algorithm, name)]
    if not found:
        report.ask("it serves a small environment", lambda: f"supports() refuses all of {', '.join(PLACES)}")
        return report
    name, env = found[0]
    spec = describe(env, 100_000, name)
    if not report.ask("its methods answer what drivers expect", lambda: check_methods(algorithm, env, spec)):
        return report
    driver = ScanDriver(algorithm, env, spec, 1)
    states: dict[str, PyTree] = {}

    def learns() -> str | None:
        states["one"] = _run(driver, 0, ITERATIONS)
        like = driver.like()
        if jax.tree.structure(like) != jax.tree.structure(states["one"]):  # type: ignore[operator]
            return "its state has another structure after learning than before"
        tally = states["one"].tally
        wrong = [n for n in tally.names if (np.asarray(tally.of(n, tally.bad)) >= 0).any()]
        return f"{', '.join(wrong)} is not finite after {ITERATIONS} iterations on {name}" if wrong else None

    if not report.ask(f"it learns on {name}: same state, finite metrics", learns):
        return report
    one = states["one"]
    report.ask("the same seed gives the same, bit for bit", lambda: _same(one, _run(driver, 0, 1, ITERATIONS - 1)))
    report.ask("another seed gives something else", lambda: _other(one, _run(driver, 1, ITERATIONS)))
    report.ask("what `actor` gives is enough to act, for any number of environments", lambda: _acts(algorithm, one))
    report.ask("it learns on the host as well", lambda: _hosted(algorithm, name))
    report.ask("NaN in its parameters shows in its metrics", lambda: _notices(driver, one))
    return report


def _suits(algorithm: Any, name: str) -> bool:
    try:
        return serves(algorithm, describe(make(name), 1, name)) is None
    except ImportError:
        return False


def _json(algorithm: Any) -> str | None:
    data = json.loads(json.dumps(to_json(algorithm)))
    again = from_json(data, known_configs(types_in(algorithm)))
    same = jax.tree.structure(again) == jax.tree.structure(algorithm)  # type: ignore[operator]
    return None if same else "what is read back is something else"


def _run(driver: Any, seed: int, *pieces: int) -> Any:
    state = driver.init(jax.vmap(random_key)(jnp.asarray([seed], jnp.uint32)))
    warm = warm_iterations(driver.algorithm)
    state = driver.advance(state, warm, True) if warm else state
    for n in pieces:
        state = driver.advance(state, n)
    return state


def _same(a: PyTree, b: PyTree) -> str | None:
    one, other = to_arrays(a), to_arrays(b)
    differing = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    return f"{differing[0]} differs (use the key that is given for everything random)" if differing else None


def _other(a: Any, b: Any) -> str | None:
    return "the agent is the same: the key is not used" if _same(a.agent, b.agent) is None else None


def _acts(algorithm: Any, state: Any) -> str | None:
    agent, now = (jax.tree.map(lambda x: x[0], part) for part in (state.agent, state.now._replace(sim=())))
    actor = algorithm.actor(agent)
    for n in (1, 3):
        few = jax.tree.map(lambda x, n=n: jnp.concatenate([x] * 3)[:n], now)
        for explore in (False, True):
            action, carry, _ = algorithm.act(actor, algorithm.carry(actor, n), few, random_key(0), explore)
            sizes = {x.shape[0] for x in jax.tree.leaves((action, carry))}
            if sizes != {n}:
                return f"for {n} environments it gives leading axes {sorted(sizes)}"
    return None


def _hosted(algorithm: Any, name: str) -> str | None:
    if name.startswith("pgx/"):
        return None
    env = make(f"gymnasium/{name}")
    with HostDriver(algorithm, env, describe(env, 100_000, name), [0], workers="serial") as driver:
        state = _run(driver, 0, 2)
    return None if np.asarray(state.tally.healthy()).all() else "a metric is not finite there"


def _notices(driver: Any, state: Any) -> str | None:
    """NaN in every float of the agent: some metric must tell."""
    spoil = lambda x: jnp.full_like(x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    state = driver.advance(driver.place(state._replace(agent=jax.tree.map(spoil, state.agent))), 1)
    told = not np.asarray(state.tally.healthy()).any()
    return None if told else "parameters that are NaN leave every metric finite: return a loss, or the parameters' norm"
