"""What a search costs beside mctx called by hand, on the same network and game.

    python benchmarks/search.py

Each line has the milliseconds of one `act` of AlphaZero or MuZero in connect four, those of the hand-written call, and
their ratio: medians over calls by turns, and of three such medians the middle one; then all three ratios.
The last column says whether both chose the same moves.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import pgx

import thorndike as td
from thorndike.drivers.learner import random_action
from thorndike.envs.batched import Batched
from thorndike.ops.keys import random_key
from thorndike.types import Spec

GAME, PLIES, SIMULATIONS, REPEATS, SECONDS = "connect_four", 8, 32, 3, 5.0


def positions(game: Any, n: int) -> Any:
    """n positions [B] after random moves, as an agent sees them."""
    world = Batched(game, n)
    now, step = world.reset(random_key(0)), jax.jit(world.step)
    for t in range(PLIES):
        now = step(now, random_action(game.action_space, now, random_key(t)), random_key(t))
    return now


def policy(root: Any, model: Any, imagine: Callable, key: Any, legal: Any) -> Any:
    """mctx's own loop."""
    complete = partial(mctx.qtransform_completed_by_mix_value, use_mixed_value=False)
    found = mctx.gumbel_muzero_policy(
        model, key, root, imagine, SIMULATIONS, ~legal, max_num_considered_actions=16, qtransform=complete
    )
    return found.action, found.action_weights


def bare_alphazero(actor: Any, now: Any, key: Any) -> Any:
    """As one writes it with mctx and pgx alone."""
    network, game = actor.network, pgx.make(GAME)

    def imagine(network, key, action, state):
        mover, each = state.current_player, jnp.arange(action.shape[0])
        state = jax.vmap(game.step)(state, action)
        logits, value = network(state.observation, state.legal_action_mask)
        over = state.terminated
        return mctx.RecurrentFnOutput(
            reward=state.rewards[each, mover],
            discount=jnp.where(over, 0.0, -1.0),
            prior_logits=logits,
            value=jnp.where(over, 0.0, value),
        ), state

    state = now.sim.state
    logits, value = network(state.observation, state.legal_action_mask)
    root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state)
    return policy(root, network, imagine, key, state.legal_action_mask)


def bare_muzero(decode: Callable, model: Any, now: Any, key: Any) -> Any:
    """As one writes it with mctx alone."""

    def imagine(model, key, action, z):
        z, reward = model.step(z, action)
        logits, value = model.predict(z)
        discount = jnp.full(action.shape, -1.0)
        return mctx.RecurrentFnOutput(
            reward=decode(reward), discount=discount, prior_logits=logits, value=decode(value)
        ), z

    z, legal = model.represent(now.obs), now.info["mask"]
    logits, value = model.predict(z)
    root = mctx.RootFnOutput(prior_logits=jnp.where(legal, logits, -1e9), value=decode(value), embedding=z)
    return policy(root, model, imagine, key, legal)


def seconds(acts: tuple[Callable, Callable], *given: Any) -> list[float]:
    """The median time of a call of each, called by turns: what else the machine does delays both alike."""
    found: list[list[float]] = [[], []]
    while sum(map(sum, found)) < SECONDS:
        for act, times in zip(acts, found):
            start = time.perf_counter()
            jax.block_until_ready(act(*given))
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in found]


def main() -> None:
    """Print a row for each algorithm and batch."""
    game: Any = td.make(f"pgx/{GAME}")
    spec = Spec(game.observation_space, game.action_space, 1, masked=True, model=game)
    alphazero: Any = td.preset("alphazero", f"pgx/{GAME}")
    muzero: Any = td.preset("muzero", "pgx/tic_tac_toe")
    hands = (bare_alphazero, partial(bare_muzero, muzero.bins.decode))
    for name, preset, by_hand in zip(("alphazero", "muzero"), (alphazero, muzero), hands):
        algorithm = dataclasses.replace(preset, simulations=SIMULATIONS, temperature=1.0, learning_rate=1e-3)
        actor = algorithm.actor(algorithm.init(random_key(0), spec))
        act = lambda actor, now, key, algorithm=algorithm: algorithm.act(actor, (), now, key, True)  # noqa: E731
        ours, theirs = jax.jit(act), jax.jit(by_hand)
        for n in (64, 1):
            given = (actor, positions(game, n), random_key(0))
            for one in (ours, theirs):
                jax.block_until_ready(one(*given))
            pairs = [seconds((ours, theirs), *given) for _ in range(REPEATS)]
            a, b = (statistics.median(x) for x in zip(*pairs))
            ratios = ", ".join(f"{x / y:.3f}" for x, y in pairs)
            same = "yes" if (ours(*given)[0] == theirs(*given)[0]).all() else "no"
            print(f"| {name} | {n} | {1e3 * a:.2f} | {1e3 * b:.2f} | {a / b:.3f} | {ratios} | {same} |", flush=True)


if __name__ == "__main__":
    main()
