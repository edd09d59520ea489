"""Explanations of what an agent does, or expects, at the steps of an episode or at given observations."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.errors import IncompatibleError, require
from thorndike.explain import attribution as by
from thorndike.explain.attribution import Method
from thorndike.explain.baseline import Layout, as_numbers, baseline
from thorndike.explain.score import WORDS, Kind, Of, Scene, choose, kind_of, scene_of, score
from thorndike.text import columns
from thorndike.types import Array, PyTree

MOST, FRAMES = 500, 24  # steps of an episode that are explained, and those of one with images


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """Attributions at N moments; `print` shows how much each of the F features counts."""

    agent: str
    method: Method
    kind: Kind  # of the explained number, `score.WORDS`
    layout: Layout
    names: list[str]  # of features [F]: elements of vectors, channels of images
    steps: np.ndarray  # of the episode [N]
    obs: list[np.ndarray]  # the parts of the observations, each [N, ...]
    maps: list[np.ndarray]  # their attributions, of the same shapes
    score: np.ndarray  # the explained number F(x) [N]
    start: np.ndarray  # F(x₀) at the baseline [N]
    changes: np.ndarray | None  # [F], in which part of the moments another choice is made without the feature

    @property
    def values(self) -> np.ndarray:
        """The attributions of each feature, [N, F]."""
        return self.layout.by_feature(self.maps)[0]

    @property
    def shares(self) -> dict[str, float]:
        """How much of all attribution each feature has, by size: a push up and one down do not cancel."""
        sizes = self.layout.by_feature(self.maps)[1].mean(0)
        return dict(zip(self.names, (sizes / max(sizes.sum(), 1e-30)).tolist()))

    @property
    def incompleteness(self) -> float:
        """How far attributions are from adding up to F(x) - F(x₀), as a part of that; 0 for exact methods."""
        total, gap = self.values.sum(1), self.score - self.start
        return float(np.abs(total - gap).mean() / max(np.abs(gap).mean(), 1e-30))

    def save(self, out: str | Path, tree: Any = None) -> Path:
        """Write a page of it in one file, .html; with a `Tree`, that too."""
        from thorndike.explain.page import write

        return write(self, out, tree)

    def __str__(self) -> str:
        rows = sorted(self.shares.items(), key=lambda item: -item[1])[:20]
        return f"{self.method} of {WORDS[self.kind]}, {len(self.steps)} moments\n" + columns(
            [(name, f"{share:6.1%}") for name, share in rows]
        )

    __repr__ = __str__


def explain(
    agent: Any,
    obs: Any,
    mask: Any = None,
    *,
    method: Method = "integrated",
    of: Of = "action",
    part: int = 0,
    against: Any = None,
    names: tuple[str, ...] = (),
    episode: bool = False,
) -> Explanation:
    """Attribute what an agent does, or expects, to what it sees.

    Args:
        agent: an `Agent`.
        obs: an observation, or several with a leading axis [N].
        mask: legal actions [A] or [N, A], where there are such.
        method: integrated (gradients), gradient, gradient-x-input, occlusion or shapley (exact, of at most 12 parts).
        of: the action that is taken, or the value that is expected.
        part: which dimension of the action, where it has several.
        against: the baseline, an observation; by default images are compared with themselves blurred, numbers with
            their mean, and choices with the most frequent one.
        names: of the features.
        episode: the observations are the steps of one episode, which an agent with memory remembers.

    Raises:
        ConfigError: an argument cannot work.
        IncompatibleError: the agent's number has no such explanation, or `obs` does not fit.
    """
    require(method in get_args(Method), f"method is one of {', '.join(get_args(Method))}, got {method!r}")
    space, layout = agent.spec.observation, Layout.of(agent.spec.observation)
    agent = copy.copy(agent)
    agent.reset()
    now, _ = agent._now(obs, mask, False)
    labels = layout.labels(tuple(names))
    features = len(layout.labels())
    require(len(labels) == features, f"there are {features} features, and names has {len(labels)}")
    scene = scene_of(agent, now.obs, now.info.get("mask"), episode)
    kind = kind_of(agent, scene, of, part)
    x = as_numbers(scene.obs, space)
    if against is None:
        x0 = baseline(agent, scene.obs)
    else:
        agent.reset()
        one, batched = agent._now(against, None if mask is None else agent.all_legal(), False)
        require(not batched, "against is one observation")
        x0 = jax.tree.map(lambda a, b: jnp.broadcast_to(b, a.shape), x, as_numbers(one.obs, space))
    scene = scene._replace(choice=choose(agent.algorithm, agent.actor, scene, scene.obs, kind, part))
    found, ends = _attributed(agent.algorithm, agent.actor, scene, x, x0, layout, method, kind, part)
    finite = all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(found))
    if not finite:
        raise IncompatibleError("the attributions are not finite: the network may be, or its derivative is not")
    changed = None
    if kind in ("q", "choice", "bit") and not any(layout.images):
        changed = np.asarray(_changed(agent.algorithm, agent.actor, scene, x, x0, layout, kind, part))
    flat = lambda tree: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]  # noqa: E731
    n = len(ends[0])
    whole, start = map(np.asarray, ends)
    return Explanation(
        repr(agent), method, kind, layout, labels, np.arange(n), flat(now.obs), flat(found), whole, start, changed
    )


@partial(jax.jit, static_argnames=("layout", "method", "kind", "part"))
def _attributed(
    algorithm: Any,
    actor: PyTree,
    scene: Scene,
    x: PyTree,
    baseline: PyTree,
    layout: Layout,
    method: Method,
    kind: Kind,
    part: int,
) -> tuple[PyTree, tuple[Array, Array]]:
    """The attributions, F(x) and F(x₀)."""
    f = lambda obs: score(algorithm, actor, scene, obs, kind, part)  # noqa: E731
    if method == "integrated":
        found = by.integrated_gradients(f, x, baseline)
    elif method == "gradient":
        found = by.gradient(f, x)
    elif method == "gradient-x-input":
        found = by.gradient_x_input(f, x, baseline)
    else:
        groups = jax.tree.unflatten(jax.tree.structure(x), layout.groups(method))
        found = (by.occlusion if method == "occlusion" else by.shapley)(f, x, baseline, groups)
    return found, (f(x), f(baseline))


@partial(jax.jit, static_argnames=("layout", "kind", "part"))
def _changed(
    algorithm: Any, actor: PyTree, scene: Scene, x: PyTree, baseline: PyTree, layout: Layout, kind: Kind, part: int
) -> Array:
    """In which part of the moments another choice is made without each feature of vectors, [F]."""
    groups = jax.tree.unflatten(jax.tree.structure(x), by.each_element(layout.shapes))

    def one(feature):
        other = choose(algorithm, actor, scene, by.without(x, baseline, groups, feature), kind, part)
        return (other != scene.choice).mean()

    return jax.lax.map(one, jnp.arange(by.count(groups)))


def explain_run(run: Any, *, seed: int | None = None, step: Any = None, start: int = 0, **options: Any) -> Explanation:
    """Explain an episode that a run's agent plays, at up to 500 steps, or 24 where it sees images, evenly apart.

    Args:
        run: the run.
        seed: whose agent.
        step: of which checkpoint.
        start: the seed of the episode.
        options: of `explain`.
    """
    from thorndike.drivers.scan import member
    from thorndike.runs.results.record import record

    agent = run.agent(seed, step=step)
    (episode,) = record(agent, member(run.env, 0), 1, start, False, run.stepping)
    length = len(episode.rewards)
    most = FRAMES if any(Layout.of(agent.spec.observation).images) else MOST
    remembers = bool(jax.tree.leaves(agent.algorithm.carry(agent.actor, 1)))
    at = np.unique(np.linspace(0, length - 1, min(length, most)).astype(int))
    rows = np.arange(at[-1] + 1)[:most] if remembers else at  # memory needs every step
    obs = jax.tree.map(lambda x: np.asarray(x)[rows], episode.observations)
    mask = None if episode.masks is None else np.asarray(episode.masks)[rows]
    found = explain(agent, obs, mask, episode=True, **options)
    return dataclasses.replace(found, steps=rows)
