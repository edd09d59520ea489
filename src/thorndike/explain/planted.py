"""Decision trees as arrays, and as a policy that is compiled, and exported, as others are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from thorndike.configuration import config
from thorndike.types import Array, PyTree, Spec, Timestep

LEAF = -1  # in the place of a feature


class Nodes(NamedTuple):
    """A binary tree of M nodes, the first its root: left where x[feature] <= threshold, else right."""

    feature: np.ndarray  # [M], `LEAF` at leaves
    threshold: np.ndarray  # float32 [M]
    left: np.ndarray  # [M]
    right: np.ndarray  # [M]
    action: np.ndarray  # [M], from 0

    @staticmethod
    def of(fitted: Any) -> Nodes:
        """Those of a classifier of scikit-learn's, whose classes are actions.

        Its thresholds are float64, and the numbers compared with them float32: the next float32 below decides alike.
        """
        tree = fitted.tree_
        leaf = tree.children_left == -1
        threshold = tree.threshold.astype(np.float32)
        above = threshold.astype(np.float64) > tree.threshold
        threshold = np.where(above, np.nextafter(threshold, np.float32(-np.inf)), threshold)
        action = fitted.classes_[tree.value[:, 0].argmax(-1)]
        feature = np.where(leaf, LEAF, tree.feature)
        found = Nodes(
            feature, np.where(leaf, np.float32(0), threshold), tree.children_left, tree.children_right, action
        )
        return found.pruned()

    def pruned(self) -> Nodes:
        """The tree that decides alike without tests that decide nothing: both of their sides lead to one action."""
        rows: list[list[Any]] = []

        def grow(at: int) -> int:
            here, start = [self.feature[at], self.threshold[at], LEAF, LEAF, self.action[at]], len(rows)
            rows.append(here)
            if self.feature[at] != LEAF:
                here[2], here[3] = grow(int(self.left[at])), grow(int(self.right[at]))
                sides = [rows[i] for i in here[2:4]]
                if all(side[0] == LEAF for side in sides) and sides[0][4] == sides[1][4]:
                    del rows[start:]
                    rows.append([LEAF, np.float32(0), LEAF, LEAF, sides[0][4]])
            return start

        grow(0)
        return Nodes(*map(np.array, zip(*rows)))

    def decide(self, x: np.ndarray) -> np.ndarray:
        """The action for each row of x, [N, D] to [N]."""
        at = np.zeros(len(x), int)
        while (inner := self.feature[at] != LEAF).any():
            below = x[np.arange(len(x)), self.feature[at]] <= self.threshold[at]
            at = np.where(inner, np.where(below, self.left[at], self.right[at]), at)
        return self.action[at]


class Planted(NamedTuple):
    """A tree of at most L leaves as matrices, so that one program serves all trees of that size."""

    select: Array  # which feature each of the L - 1 tests reads, one-hot [D, L - 1]
    threshold: Array  # [L - 1]
    path: Array  # +1 where a leaf is behind a test's yes, -1 behind its no, else 0, [L - 1, L]
    yes: Array  # how many yes lead to each leaf [L]; more than there are, where there is no such leaf
    action: Array  # of each leaf [L]


def planted(nodes: Nodes, leaves: int, spec: Spec) -> Planted:
    """The matrices of a tree."""
    size, tests = int(np.prod(spec.observation.shape)), np.flatnonzero(nodes.feature != LEAF)
    number = {int(node): i for i, node in enumerate(tests)}
    select, threshold = np.zeros((size, leaves - 1), np.float32), np.zeros(leaves - 1, np.float32)
    for node, i in number.items():
        select[nodes.feature[node], i], threshold[i] = 1, nodes.threshold[node]
    path, yes, action = np.zeros((leaves - 1, leaves), np.float32), np.full(leaves, 2.0 * leaves), np.zeros(leaves)
    waiting, leaf = [(0, np.zeros(leaves - 1, np.float32))], 0
    while waiting:
        node, way = waiting.pop()
        if nodes.feature[node] == LEAF:
            path[:, leaf], yes[leaf], action[leaf] = way, (way > 0).sum(), nodes.action[node]
            leaf += 1
            continue
        here = np.eye(leaves - 1, dtype=np.float32)[number[node]]
        waiting += [(int(nodes.left[node]), way + here), (int(nodes.right[node]), way - here)]
    arrays = (select, threshold, path, yes.astype(np.float32), action.astype(np.int32))
    return Planted(*map(jnp.asarray, arrays))


@config
class TreePolicy:
    """Acts by a `Planted` tree: the leaf whose every test on the way there comes out as it has to."""

    def carry(self, actor: Planted, n: int) -> PyTree:
        """It remembers nothing."""
        return ()

    def act(self, actor: Planted, carry: PyTree, now: Timestep, key: Array, explore: bool):
        """The leaf's action."""
        exactly = jax.lax.Precision.HIGHEST  # a feature picked by a product has to come out as it was
        x = now.obs.reshape(now.obs.shape[0], -1).astype(jnp.float32)
        holds = jnp.matmul(x, actor.select, precision=exactly) <= actor.threshold
        agree = jnp.matmul(holds.astype(jnp.float32), actor.path, precision=exactly)
        return actor.action[(agree - actor.yes).argmax(-1)], carry, {}
