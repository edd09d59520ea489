"""An agent as a small decision tree, which can be read: VIPER (Bastani, Pu & Solar-Lezama 2018)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.spaces import Box, Discrete

from thorndike.drivers.evaluate import act, evaluate, side_by_side, watched
from thorndike.drivers.evaluation import Evaluation
from thorndike.drivers.scan import member
from thorndike.envs.batched import Batched, is_jax
from thorndike.errors import IncompatibleError, require
from thorndike.explain.planted import LEAF, Nodes, TreePolicy, planted
from thorndike.extras import importing
from thorndike.ops.keys import random_key
from thorndike.text import brief, score
from thorndike.types import PyTree

SIDES = 8  # environments that are played side by side
SAMPLES = 2000  # states that a round adds
TRIALS = 20  # episodes by which rounds are compared
LEAST = 1e-6  # of a probability whose logarithm is taken


@dataclasses.dataclass(frozen=True, repr=False)
class Tree:
    """A decision tree in the place of an agent; called with an observation it gives the action.

    So it is a rule: `td.criteria(run, tree)` compares the agent with it.
    """

    nodes: Nodes
    names: list[str]  # of features
    spec: Any
    evaluation: Evaluation  # its own episodes
    teacher: Evaluation  # the agent's
    fidelity: float  # how often it does what the agent would, where the tree itself goes

    @property
    def leaves(self) -> int:
        """How many it has."""
        return int((self.nodes.feature == LEAF).sum())

    def __call__(self, obs: Any) -> Any:
        """The action for one observation."""
        return self.spec.action.start + self.nodes.decide(np.asarray(obs, np.float32).reshape(1, -1))[0]

    @property
    def agent(self) -> Any:
        """As an agent, with `act`, and `export` to ONNX and NumPy."""
        from thorndike.runs.results.agent import Agent

        return Agent(TreePolicy(), self.spec, planted(self.nodes, self.leaves, self.spec))

    def text(self) -> str:
        """The rules, indented."""
        return "\n".join(self._lines(0, 0))

    def _lines(self, at: int, depth: int) -> Iterator[str]:
        nodes, indent = self.nodes, "    " * depth
        if nodes.feature[at] == LEAF:
            yield f"{indent}action {self.spec.action.start + nodes.action[at]}"
            return
        name, threshold = self.names[nodes.feature[at]], f"{nodes.threshold[at]:.5g}"
        yield f"{indent}if {name} <= {threshold}:"
        yield from self._lines(int(nodes.left[at]), depth + 1)
        yield f"{indent}else:"
        yield from self._lines(int(nodes.right[at]), depth + 1)

    def save(self, out: str | Path) -> Path:
        """Write it as a function of an observation in a Python file that needs nothing else.

        `thorndike criteria RUN --baseline ./tree.py:act` plays it.
        """
        from thorndike.explain.drawing import source

        out = Path(out).expanduser()
        require(out.suffix == ".py", f"a tree is written as a .py file, got {out}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(source(self), "utf-8")
        return out

    def __str__(self) -> str:
        mine, theirs = self.evaluation, self.teacher
        return (
            f"{self.leaves} leaves, return {score(mine.mean)} where the agent has {score(theirs.mean)} "
            f"({mine.returns.size} episodes each), the agent's action in {self.fidelity:.1%} of its states\n"
            f"{self.text()}"
        )

    __repr__ = __str__


class Lesson(NamedTuple):
    """States that were visited, what the agent does there, and how much depends on that."""

    obs: np.ndarray  # [N, D]
    action: np.ndarray  # [N], from 0
    weight: np.ndarray  # [N]


def distil(
    agent: Any,
    env: Any,
    leaves: int = 15,
    *,
    rounds: int = 10,
    episodes: int = 100,
    names: tuple[str, ...] = (),
    seed: int = 0,
    how: dict[str, Any] | None = None,
) -> Tree:
    """The best of `rounds` trees: each is fitted to what the agent does where it and earlier trees went.

    In round i the agent (i = 0) or the last tree plays, and the agent says of every state what it would do: DAgger
    (Ross, Gordon & Bagnell 2011). Trees are fitted to all states so far, weighted by what a wrong action may cost,

        l(s) = V(s) - min_a Q(s, a),   or without Q   max_a log π(a | s) - min_a log π(a | s)

    Args:
        agent: a trained agent with discrete actions; its observations are numbers.
        env: its environment.
        leaves: the most that the tree has.
        rounds: how many trees to try.
        episodes: by which the best one, and the agent, are evaluated: others than those that chose it.
        names: of the features.
        seed: of the episodes.
        how: options of host environments' `batch`.

    Raises:
        IncompatibleError: the agent has other actions or observations, a memory, or neither Q nor probabilities.
        MissingExtraError: scikit-learn is not installed.
    """
    require(leaves >= 2, f"a tree has at least 2 leaves, got {leaves}")
    require(rounds >= 1, f"rounds must be at least 1, got {rounds}")
    check(agent)
    size = int(np.prod(agent.spec.observation.shape))
    require(len(names) in (0, size), f"there are {size} features, and names has {len(names)}")
    env = getattr(env, "evaluation", env)
    policy, play = TreePolicy(), partial(evaluate, env=env, how=how)
    fit = _fitter(leaves)
    lessons: list[Lesson] = []
    best: tuple[float, Nodes, PyTree] | None = None
    with visiting(env, seed, how or {}) as visit:
        algorithm, actor = agent.algorithm, agent.actor
        for _ in range(rounds):
            lessons.append(lesson(agent, visit(algorithm, actor)))
            nodes = fit(Lesson(*map(np.concatenate, zip(*lessons))))
            algorithm, actor = policy, planted(nodes, leaves, agent.spec)
            reached = play(algorithm, _alone(actor), episodes=TRIALS, seed=seed + 1000).mean
            if best is None or reached > best[0]:
                best = reached, nodes, actor
        assert best is not None
        _, nodes, actor = best
        seen = lesson(agent, visit(policy, actor))
    same = float((nodes.decide(seen.obs) == seen.action).mean())
    mine = play(policy, _alone(actor), episodes=episodes, seed=seed + 2000)
    theirs = play(agent.algorithm, _alone(agent.actor), episodes=episodes, seed=seed + 2000)
    return Tree(nodes, list(names) or [f"x{i}" for i in range(size)], agent.spec, mine, theirs, same)


def check(agent: Any) -> None:
    """Raise `IncompatibleError` where no tree can stand for an agent."""
    spec, name = agent.spec, type(agent.algorithm).__name__
    fits = isinstance(spec.action, Discrete) and isinstance(spec.observation, Box) and spec.players == 1
    if not fits:
        raise IncompatibleError(f"a tree chooses among actions by an array of numbers: not {brief(spec.observation)}")
    if spec.masked:
        raise IncompatibleError("a tree knows no mask: its action might be illegal")
    if jax.tree.leaves(agent.algorithm.carry(agent.actor, 1)):
        raise IncompatibleError(f"this {name} remembers, and a tree does not")


def lesson(agent: Any, obs: np.ndarray) -> Lesson:
    """What the agent does at observations [N, ...], and l(s)."""
    seen = agent.look(obs)
    if "q" in seen:
        weight = seen["value"] - seen["q"].min(-1)
    elif "probabilities" in seen:
        logs = np.log(np.maximum(seen["probabilities"], LEAST))
        weight = logs.max(-1) - logs.min(-1)
    else:
        raise IncompatibleError(f"{agent!r} has neither Q nor probabilities, by which states are weighted")
    action = np.asarray(agent.act(obs)) - agent.spec.action.start
    return Lesson(obs.reshape(len(obs), -1).astype(np.float32), action, np.maximum(weight, 0) + 1e-8)


def _fitter(leaves: int) -> Callable[[Lesson], Nodes]:
    classifier = sklearn_tree().DecisionTreeClassifier

    def fit(data: Lesson) -> Nodes:
        found = classifier(max_leaf_nodes=leaves, random_state=0).fit(data.obs, data.action, data.weight)
        return Nodes.of(found)

    return fit


def sklearn_tree() -> Any:
    """scikit-learn's trees; raises `MissingExtraError`."""
    with importing("sklearn", "a decision tree"):
        import sklearn.tree
    return sklearn.tree


def _alone(actor: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[None], actor)


@contextlib.contextmanager
def visiting(env: Any, seed: int, how: dict[str, Any]) -> Iterator[Callable[..., np.ndarray]]:
    """A function of a policy that goes on playing with it, and gives the states that it met, [N, ...]."""
    key = random_key(seed)
    with contextlib.ExitStack() as stack:
        if is_jax(env):
            world = Batched(member(env, 0), SIDES)
            now, step, n = jax.jit(world.reset)(key), watched(world), SIDES
        else:
            batch = stack.enter_context(side_by_side(env, SIDES, seed, how))
            now, n = batch.reset(), batch.num_envs
            step = lambda now, action, key: batch.step(np.asarray(action))  # noqa: E731

        def visit(algorithm: Any, actor: PyTree) -> np.ndarray:
            nonlocal now, key
            carry, met = algorithm.carry(actor, n), []
            for _ in range(-(-SAMPLES // n)):
                met.append(np.array(now.obs))
                key, akey, skey = jax.random.split(key, 3)
                action, carry = act(algorithm, actor, carry, now, akey, False)
                now = step(now, action, skey)
            return np.concatenate(met)

        yield visit
