"""Windows of a ring: the steps that follow a row in its episode.

A rollout's rows lie one step of all environments after the other, so a row's successor is `stride` rows on, where
`stride` is the number of environments.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from thorndike.memory.ring import Memory
from thorndike.types import Array, Transition


def window(memory: Memory, index: Array, n: int) -> tuple[Array, Array]:
    """The rows `index` [B] and the n - 1 after each.

    Returns:
        The rows [n, B], and for each of the n - 1 later ones whether it belongs to the same episode and has been
        written [n - 1, B]; all after one that does not, do not.
    """
    data: Transition = memory.data
    capacity, k = data.reward.shape[0], jnp.arange(n)[:, None]
    rows = (index + k * memory.stride) % capacity
    newer = (memory.cursor - 1 - index) % capacity // memory.stride  # steps of its environment that came after it
    ended = data.terminated[rows[:-1]] | data.truncated[rows[:-1]]
    # Where a run was resumed, an episode may begin though the last one has no end.
    follows = ~ended & ~data.first[rows[1:]] & (k[1:] <= newer)
    return rows, jnp.cumprod(follows, 0).astype(bool)


def joined(memory: Memory, index: Array, n: int) -> Transition:
    """Transitions [B, ...] over up to n steps, of which `ops.returns.n_step` makes targets.

    s, a and the first reward are those of the rows `index`; s', terminated and the mask there are the last step's.
    `extras["later"]` are the other rewards [B, n - 1], 0 after the episode's end or the newest row, and
    `extras["steps"]` says how many steps it spans [B].
    """
    data: Transition = memory.data
    rows, alive = window(memory, index, n)
    steps = 1 + alive.sum(0)
    last = jnp.take_along_axis(rows, steps[None] - 1, 0)[0]
    at = lambda tree, i: jax.tree.map(lambda ring: ring[i], tree)  # noqa: E731
    begin = at(data._replace(next_obs=(), terminated=(), first=(), truncated=()), index)  # type: ignore[arg-type]
    later = {name: at(x, last) for name, x in data.info.items() if name.startswith("next_")}
    rewards = jnp.where(alive, data.reward[rows[1:]], 0.0).T
    return begin._replace(
        next_obs=at(data.next_obs, last),
        terminated=data.terminated[last],
        info={**begin.info, **later},
        extras={**begin.extras, "later": rewards, "steps": steps},
    )


def earlier(memory: Memory, index: Array, n: int) -> Array:
    """How many steps before the rows `index` [B] belong to the same episode and are still there, n - 1 at most, [B]."""
    data: Transition = memory.data
    capacity, k = data.reward.shape[0], jnp.arange(n)[:, None]
    rows = (index - k * memory.stride) % capacity
    oldest = jnp.where(memory.size == capacity, memory.cursor, 0)
    older = (index - oldest) % capacity // memory.stride
    return jnp.cumprod(~data.first[rows[:-1]] & (k[1:] <= older), 0).sum(0)
