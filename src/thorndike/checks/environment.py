"""The contract of environments, tried with random actions."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.utils.env_checker import check_env

from thorndike.checks.report import Report
from thorndike.choosing import able
from thorndike.drivers.health import FAULTS, sizes, step_faults, strays
from thorndike.drivers.learner import random_action
from thorndike.drivers.scan import transition
from thorndike.envs import make
from thorndike.envs.batched import Batched, is_jax
from thorndike.ops.keys import random_key
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.validation import check_answers, check_spaces

COPIES, STEPS = 4, 300


def check_environment(source: Any, kwargs: dict[str, Any]) -> Report:
    """Ask an environment what `Environment` in `thorndike.types`, or Gymnasium's, promises; see `td.check`."""
    made: dict[str, Any] = {}

    def makes() -> None:
        made["env"] = make(source, **kwargs)

    report = Report(getattr(source, "__name__", None) or str(source)[:60])
    if not report.ask("it can be made, and its spaces are supported", makes):
        return report
    env = made["env"]
    report.name = getattr(env, "id", type(env).__name__)
    if is_jax(env):
        _compiled(report, env)
    else:
        _hosted(report, env, source, kwargs)
    report.advice.append(able(env).strip() or "No algorithm of the package can serve it.")
    return report


def _compiled(report: Report, env: Any) -> None:
    good = report.ask("its spaces do not depend on its float fields", lambda: check_spaces(env))
    good &= report.ask("reset and step give what its spaces say", lambda: check_answers(env))
    if not good:
        return
    world = Batched(env, COPIES)

    @jax.jit
    def play(key):
        def step(carry, key):
            now, stray = carry
            akey, skey = jax.random.split(key)
            action = random_action(env.action_space, now, akey)
            later = world.step(now, action, skey)
            seen = sizes(env.observation_space, now.obs, later.final_obs)
            wrong = step_faults(env, transition(now, action, {}, later))
            told = (wrong, later.terminated, later.truncated, later.reward, seen)
            stray = jnp.maximum(stray, strays(env.observation_space, later.final_obs))
            return (later._replace(earned={}), stray), (told, later.obs)

        start = world.reset(key)
        return jax.lax.scan(step, (start, jnp.float32(0)), jax.random.split(key, STEPS))

    (_, stray), ((wrong, terminated, truncated, reward, seen), obs) = jax.device_get(play(random_key(0)))
    _, (_, again) = jax.device_get(play(random_key(0)))
    ended = int((terminated | truncated).sum())
    report.ask(
        f"{STEPS} random steps of {COPIES} copies are finite",
        lambda: f"a copy {FAULTS[int(wrong.max())]}" if wrong.any() else None,
    )
    report.ask(
        "observations stay near their space",
        lambda: f"one was as large as {stray:g}: correct observation_space, or scale it" if stray else None,
    )
    report.ask("the same key gives the same", lambda: None if _equal(obs, again) else "it draws from elsewhere")
    _advise(report, env, reward, max((float(x.max()) for x in seen), default=0.0), ended)


def _hosted(report: Report, env: Any, source: Any, kwargs: dict[str, Any]) -> None:
    copies = 2 if getattr(env, "copyable", True) else 1

    def played(seed: int) -> list[Any]:
        with env.batch(copies, seed=seed, workers="serial") as batch:
            now = batch.reset()
            found: list[Any] = [(now.obs, now.reward, now.first)]
            for t in range(STEPS):
                action = np.asarray(random_action(env.action_space, now, random_key(t)))
                now = batch.step(action)
                found.append((now.obs, now.reward, now.terminated | now.truncated))
            return found

    runs: dict[str, list[Any]] = {}

    def plays() -> None:
        runs["one"] = played(0)

    if not report.ask(f"{STEPS} random steps keep Gymnasium's contract", plays):
        return
    one = runs["one"]
    report.ask(
        "the same seed gives the same episodes",
        lambda: None if _equal(one, played(0)) else "reset(seed=...) does not seed everything",
    )
    if isinstance(source, (str, type)) or callable(source):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            report.ask(
                "Gymnasium's own check_env", lambda: check_env(_raw(env, source, kwargs), skip_render_check=True)
            )
        report.advice += [str(w.message).replace("\x1b[33mWARN: ", "").replace("\x1b[0m", "") for w in told][:5]
    large = max(float(np.abs(np.asarray(x)).max()) for step in one for x in jax.tree.leaves(step[0]))
    reward = np.stack([step[1] for step in one])
    _advise(report, env, reward, large, int(np.sum([step[2] for step in one[1:]])))


def _raw(env: Any, source: Any, kwargs: dict[str, Any]) -> Any:
    made = gymnasium.make(env.id, **kwargs) if isinstance(source, str) else source(**kwargs)
    return made.unwrapped


def _equal(a: Any, b: Any) -> bool:
    return all(
        np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def _advise(report: Report, env: Any, reward: np.ndarray, large: float, ended: int) -> None:
    """What holds and may still make learning hard."""
    spec = describe(env, 1, "")
    if not ended:
        limit = getattr(env, "max_steps", None)
        report.advice.append(
            f"no episode ended in {STEPS} random steps (time limit: {limit}): learning sees no whole return for long"
        )
    if large > 20 and getattr(spec.observation, "dtype", np.dtype(float)).kind == "f":
        report.advice.append(f"observations are as large as {large:g}: normalize_observation=True, or scale them")
    if np.abs(reward).max() > 20:
        report.advice.append(f"rewards are as large as {np.abs(reward).max():g}: scale them, or PPO's normalize_reward")
    if not reward.any():
        report.advice.append("random actions never earned a reward: exploration will be hard; see td.Shaping")
