"""Tree search by PUCT through a game's own rules, from batches of positions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from thorndike.planning.turns import mctx_package, moved
from thorndike.types import Array, PyTree, Step


def puct(
    game: Any,
    at: Step,
    key: Array,
    judge: Callable[[Step, Array], tuple[Array, Array]],
    simulations: int,
    exploration: float,
) -> Any:
    """A search from positions [B, ...] that are not over (Silver et al. 2016): mctx's `PolicyOutput`.

    The move with most visits is made; nothing is random but what `judge` draws.

    Args:
        game: the rules, of a game of two players whose results are in [-1, 1].
        at: the positions, with their legal moves where the game has a mask.
        key: of the search.
        judge: `judge(step, key)` gives logits of the priors [B, A] and what positions are worth to their movers [B].
        simulations: positions that are added to each tree.
        exploration: weight of the priors, for values in [0, 1].
    """
    mctx, mask = mctx_package(), at.info.get("mask")
    skey, jkey = jax.random.split(key)

    def imagine(_: Any, key: Array, action: Array, state: PyTree):
        """One move further; what is good for the other player is bad for this one."""
        skey, jkey = jax.random.split(key)
        after, discount = moved(game, state, action, skey)
        logits, value = judge(after, jkey)
        step = mctx.RecurrentFnOutput(reward=after.reward, discount=discount, prior_logits=logits, value=value)
        return step, after.state

    logits, value = judge(at, jkey)
    return mctx.muzero_policy(
        (),
        skey,
        mctx.RootFnOutput(prior_logits=logits, value=value, embedding=at.state),
        imagine,
        simulations,
        None if mask is None else ~mask,
        qtransform=partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0),
        dirichlet_fraction=0.0,
        pb_c_init=exploration,
        temperature=0.0,
    )
