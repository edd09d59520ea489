"""What models are good for, drawn: planning on tables, error of a model against what planning in it earns, few steps.

    python benchmarks/model_based.py            # every piece that is not done yet
    python benchmarks/model_based.py error      # these pieces anew: values, dyna, error, curves, planners, dreamer
    python benchmarks/model_based.py --draw     # the figures alone, of what is kept

A piece that is done is kept in results/model-based.json, and figures are drawn from that into docs/images. About ten
minutes of CPU time in all; `results/model-based.md` says what was found.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import thorndike as td
from thorndike.drivers.scan import rollout
from thorndike.envs.batched import Batched
from thorndike.figures import dress, new_figure, save, style
from thorndike.ops.optimise import clip_each, descend
from thorndike.planning import dynamic_programming as dp
from thorndike.runs.training.setup import choose

HERE = Path(__file__).resolve().parent
KEPT, IMAGES = HERE / "results/model-based.json", HERE.parent / "docs/images"
GREY = {"color": "#4a5568", "linewidth": 0.8, "linestyle": ":"}
KEY = jax.random.key(0)


def trained(algorithm: Any, env: Any, steps: int, seeds: int, test: int = 0) -> dict[str, Any]:
    """The training episodes of each run, the seconds, and, where `test` is not 0, greedy returns of so many."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = td.train(algorithm, env, steps, seeds=seeds, out=Path(folder) / "run", progress=False)
        seconds, found = time.perf_counter() - start, run.episodes()
        greedy = run.evaluate(test).returns.mean(1).tolist() if test else []
    each = [{name: found[name][found["member"] == i].tolist() for name in ("step", "length", "return")}
            for i in range(seeds)]  # fmt: skip
    return {"episodes": each, "seconds": seconds, "greedy": greedy}


# --- tables -----------------------------------------------------------------------------------------------------------

SWEEPS = (1, 5, 20)


def values() -> Any:
    """FourRooms' values after sweeps of value iteration."""
    env = td.four_rooms()
    model, v, kept = dp.model_of(env), np.zeros(169), {}
    for i in range(1, SWEEPS[-1] + 1):
        v = dp.q_of(model, v, 0.95).max(-1)
        kept[i] = np.where(env.layout.goal, 1.0, np.where(env.layout.wall, -1.0, v)).tolist()
    return {str(i): kept[i] for i in SWEEPS}


def draw_values(found: Any) -> None:
    figure = new_figure(11.0, 3.6)
    for i, sweeps in enumerate(SWEEPS):
        axes, v = figure.add_subplot(1, len(SWEEPS), i + 1), np.array(found[str(sweeps)])
        axes.imshow(np.where(v < 0, np.nan, v).reshape(13, 13), "viridis", vmin=0, vmax=1)
        axes.set(title=f"V after {sweeps} sweep{'s' * (sweeps > 1)}", xticks=[], yticks=[], facecolor="#c3cad3")
    save(figure, IMAGES / "values.png")


DYNA_SEEDS = 8


def dyna() -> Any:
    """Dyna-Q with 0, 5 and 50 updates from the model, and Dyna-Q beside Dyna-Q+ in a maze where a shortcut opens."""
    planning = {
        n: trained(td.DynaQ(planning=n), "DynaMaze", steps, DYNA_SEEDS)["episodes"]
        for n, steps in ((0, 12_000), (5, 4_000), (50, 3_000))
    }
    shortcut = {
        name: [run["step"] for run in
               trained(td.preset(name, "ShortcutMaze"), "ShortcutMaze", 6_000, DYNA_SEEDS)["episodes"]]
        for name in ("dyna-q", "dyna-q-plus")
    }  # fmt: skip
    return {"lengths": {n: [run["length"][:20] for run in runs] for n, runs in planning.items()}, "goals": shortcut}


def draw_dyna(found: Any) -> None:
    figure = new_figure(11.0, 3.6)
    axes = figure.add_subplot(1, 2, 1)
    for i, (n, lengths) in enumerate(found["lengths"].items()):
        shortest = min(map(len, lengths))
        each = np.array([x[1:shortest] for x in lengths])
        x = np.arange(2, shortest + 1)
        axes.plot(x, each.mean(0), label=f"{n} updates from the model", **style(i))
        axes.fill_between(x, each.min(0), each.max(0), color=style(i)["color"], alpha=0.15, linewidth=0)
        print(f"Dyna-Q, {n}: episodes 2 to 10 take {each[:, :9].sum(1).astype(int).tolist()} steps")
    axes.axhline(14, **GREY)
    dress(axes, "episode in DynaMaze", "steps to the goal")
    axes.set(yscale="log")
    axes.legend(frameon=False)
    axes = figure.add_subplot(1, 2, 2)
    for i, (name, runs) in enumerate(found["goals"].items()):
        total = np.array([np.searchsorted(run, np.arange(6_001), "right") for run in runs])
        axes.plot(total.mean(0), label={"dyna-q": "Dyna-Q", "dyna-q-plus": "Dyna-Q+"}[name], **style(i))
        axes.fill_between(
            np.arange(6_001), total.min(0), total.max(0), color=style(i)["color"], alpha=0.15, linewidth=0
        )
        late = (total[:, -1] - total[:, 5_000]).tolist()
        print(f"{name}: {total[:, -1].tolist()} goals, {late} in the last 1,000 steps")
    axes.axvline(3_000, **GREY)
    dress(axes, "step in ShortcutMaze, which opens at 3,000", "goals reached")
    axes.legend(frameon=False)
    save(figure, IMAGES / "planning.png")


# --- how good a model has to be ---------------------------------------------------------------------------------------

WIDTHS, ROWS = ((8,), (32, 32), (64, 64)), (250, 1_000, 4_000)
UPDATES, HELD, ERROR_SEEDS, EPISODES = 2_000, 1_500, 3, 8


def experience() -> Any:
    """Steps of Pendulum [N] of a random policy and of a planner that has the simulator, half of each."""
    env = td.make("Pendulum-v1")
    mpc, world = td.MPC(num_envs=16), Batched(env, 16)
    actor = mpc.actor(mpc.init(KEY, td.Spec(env.observation_space, env.action_space, 0, model=env)))

    @partial(jax.jit, static_argnums=1)
    def play(key, how):
        return rollout(mpc, world, actor, mpc.carry(actor, 16), world.reset(key), key, how, 200)[0].steps

    both = [play(jax.random.key(i), how) for i, how in enumerate(("random", "explore"))]
    steps = jax.tree.map(lambda *xs: jnp.concatenate([x.reshape(-1, *x.shape[2:]) for x in xs]), *both)
    order = jax.random.permutation(KEY, steps.reward.shape[0])
    return jax.tree.map(lambda x: x[order], steps._replace(first=(), truncated=(), extras={}))


def error() -> Any:
    """For models of three sizes and experience of three: the error on steps not learned from, and what planning earns.

    The error is the mean over members, steps and what is predicted of (prediction - truth)² in variances of the truth.
    """
    env, steps = td.make("Pendulum-v1"), experience()
    held, rest = jax.tree.map(lambda x: x[:HELD], steps), jax.tree.map(lambda x: x[HELD:], steps)
    truth = jnp.concatenate([held.next_obs - held.obs, held.reward[:, None]], -1)
    found = []
    for widths in WIDTHS:
        pets = td.PETS(model=td.Gaussians(widths=widths), num_envs=EPISODES)
        world, spec = Batched(env, EPISODES), td.Spec(env.observation_space, env.action_space, 0)

        @jax.jit
        def fitted(key, rows, pets=pets, spec=spec):
            ikey, mkey, ukey = jax.random.split(key, 3)
            masks = pets.model.masks(mkey, rest.reward.shape[0])

            def update(state, key):
                index = jax.random.randint(key, (256,), 0, rows)
                batch = jax.tree.map(lambda x: x[index], rest._replace(extras={"members": masks}))
                return pets.update(state, batch, key)[0], None

            state = jax.lax.scan(update, pets.init(ikey, spec), jax.random.split(ukey, UPDATES))[0]
            members = (pets.model.members, *held.obs.shape[:1])
            spread = lambda x: jnp.broadcast_to(x, (*members, x.shape[-1]))  # noqa: E731
            said = state.dynamics.step(
                spread(held.obs), spread(state.actions.from_environment(held.action)), jnp.zeros((*members, 4))
            )
            change = jnp.concatenate([said.obs - held.obs, said.reward[..., None]], -1)
            return pets.actor(state), ((change - truth) ** 2 / truth.var(0)).mean()

        @jax.jit
        def earned(actor, key, pets=pets, world=world):
            played = rollout(pets, world, actor, pets.carry(actor, EPISODES), world.reset(key), key, "exploit", 200)
            return played[0].steps.reward.sum(0).mean()

        for rows in ROWS:
            for seed in range(ERROR_SEEDS):
                actor, miss = fitted(jax.random.key(seed), rows)
                row = {"widths": widths, "rows": rows, "error": float(miss), "return": float(earned(actor, KEY))}
                found.append(row)
                print(row, flush=True)
    return found


def draw_error(found: Any) -> None:
    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    for i, widths in enumerate(WIDTHS):
        for rows, marker in zip(ROWS, "o^s"):
            some = [x for x in found if tuple(x["widths"]) == widths and x["rows"] == rows]
            label = f"{' x '.join(map(str, widths))} units, {rows:,} steps"
            x, y = ([point[name] for point in some] for name in ("error", "return"))
            axes.plot(x, y, marker, color=style(i)["color"], label=label, markersize=6, alpha=0.8)
            print(f"{label}: error {np.median(x):.2g}, returns {np.round(y).astype(int).tolist()}")
    dress(axes, "", "return of planning in the model")
    axes.set(xscale="log", xlabel="error of a step not learned from, in variances")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=8)
    save(figure, IMAGES / "model-error.png")


# --- few steps --------------------------------------------------------------------------------------------------------

CURVES = (("pets", 1_800), ("mbpo", 2_000), ("sac", 2_000))


def curves() -> Any:
    """Training episodes of PETS, MBPO and SAC by their presets on Pendulum, and greedy returns after them."""
    kept = {}
    for name, steps in CURVES:
        kept[name] = trained(choose(name, "Pendulum-v1", None)[0], "Pendulum-v1", steps, 3, test=20)
        print(name, np.round(kept[name]["greedy"]).tolist(), f"{kept[name]['seconds']:.0f} s", flush=True)
    return kept


def draw_curves(found: Any) -> None:
    figure = new_figure()
    axes = figure.subplots()
    for i, (name, _) in enumerate(CURVES):
        runs = found[name]["episodes"]
        x, each = np.array(runs[0]["step"]), np.array([run["return"] for run in runs])
        axes.plot(x, each.mean(0), marker="o", markersize=3, label=name.upper(), **style(i))
        axes.fill_between(x, each.min(0), each.max(0), color=style(i)["color"], alpha=0.15, linewidth=0)
    dress(axes, "environment steps in Pendulum", "return of a training episode")
    axes.legend(frameon=False)
    save(figure, IMAGES / "few-steps.png")


# --- planners ---------------------------------------------------------------------------------------------------------

PLANNERS = {"CEM": (td.CEM(), 20), "iCEM": (td.ICEM(), 30), "MPPI": (td.MPPI(), 30),
            "random shooting": (td.RandomShooting(), 15)}  # fmt: skip


def planners() -> Any:
    """Returns of 16 episodes of Pendulum in the simulator, and milliseconds of a step of one environment."""
    env, kept = td.make("Pendulum-v1"), {}
    spec = td.Spec(env.observation_space, env.action_space, 0, model=env)
    for name, (planner, horizon) in PLANNERS.items():
        mpc = td.MPC(planner=planner, horizon=horizon)
        actor = mpc.actor(mpc.init(KEY, spec))

        def play(n: int, length: int, mpc=mpc, actor=actor):
            world = Batched(env, n)
            start = mpc.carry(actor, n)
            go = jax.jit(lambda key: rollout(mpc, world, actor, start, world.reset(key), key, "exploit", length)[0])
            return lambda: np.asarray(go(KEY).steps.reward)

        reward, times = play(16, 200)(), timed(play(1, 50), 20)
        kept[name] = {"returns": reward.sum(0).tolist(), "ms": [t / 50 for t in times]}
        mean, quick, slow = reward.sum(0).mean(), min(times) / 50, max(times) / 50
        print(f"{name}: {mean:.0f}, {quick:.2f} to {slow:.2f} ms", flush=True)
    return kept


def timed(f: Callable[[], Any], n: int) -> list[float]:
    """Milliseconds of each of n calls, after one that compiles."""
    jax.block_until_ready(f())
    found = []
    for _ in range(n):
        start = time.perf_counter()
        jax.block_until_ready(f())
        found.append(1e3 * (time.perf_counter() - start))
    return found


# --- where Dreamer's time goes ----------------------------------------------------------------------------------------


def dreamer() -> Any:
    """Milliseconds of an update of nano on CartPole, and of its parts, each a program of its own."""
    algorithm, env = choose("dreamer", "CartPole-v1", None)[0], td.make("CartPole-v1")
    spec, n = td.Spec(env.observation_space, env.action_space, 40_000), algorithm.replay.batch_size
    state, world = algorithm.init(KEY, spec), Batched(env, n)
    actor = state.actor
    batch = jax.jit(
        lambda: rollout(algorithm, world, actor, algorithm.carry(actor, n), world.reset(KEY), KEY, "random")[0]
    )()
    batch = batch._replace(carry=batch.carry[0])
    actions, share = actor.policy.actions, algorithm.unimix

    def path(actor):
        action = jax.nn.one_hot(batch.steps.action, actions.dimensions)
        return actor.world.path(batch.steps, action, batch.carry, KEY, share)

    def model(actor):
        losses = jax.tree.map(jnp.mean, actor.world.losses(path(actor), batch.steps, algorithm.free_nats))
        return sum(losses)

    before = path(actor).before
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[: algorithm.starts], before)
    seen = algorithm.imagine(actor, flat, KEY)

    def heads(actor, seen):
        """Policy and critic on what was imagined, and the critic on what was stored."""
        returns, weight = algorithm.returns(actor, seen)
        loss, value = algorithm.critic_loss(actor.critic, state.slow, seen.before.features, returns)
        pi = actor.policy(seen.before, share)
        climbed = weight * ((returns - jax.lax.stop_gradient(value)) * pi.log_prob(seen.action) + pi.entropy())
        stored = algorithm.critic_loss(actor.critic, state.slow, before.features, batch.steps.reward)[0]
        return (weight * loss).mean() - climbed.mean() + stored.mean()

    def stepped(gradient, state):
        clipped = clip_each(gradient, state.actor, algorithm.clip)
        return descend(algorithm.descent, clipped, state.optimiser, state.actor)[0]

    programs = {
        "the whole update": (algorithm.update, (state, batch, KEY)),
        "world model, forward": (model, (actor,)),
        "world model, forward and gradient": (jax.value_and_grad(model), (actor,)),
        "imagination": (algorithm.imagine, (actor, flat, KEY)),
        "returns, policy and critic, forward and gradient": (jax.value_and_grad(heads), (actor, seen)),
        "clipping and optimiser": (stepped, (actor, state)),
    }
    kept = {}
    for name, (f, args) in programs.items():
        program = jax.jit(f)
        kept[name] = timed(lambda: program(*args), 30)  # noqa: B023
        print(f"{name}: {np.median(kept[name]):.1f} ms", flush=True)
    return kept


# ----------------------------------------------------------------------------------------------------------------------

PIECES: dict[str, Callable[[], Any]] = {
    "values": values, "dyna": dyna, "error": error, "curves": curves, "planners": planners, "dreamer": dreamer,
}  # fmt: skip
DRAWN: dict[str, Callable[[Any], None]] = {
    "values": draw_values, "dyna": draw_dyna, "error": draw_error, "curves": draw_curves,
}  # fmt: skip


def main(words: list[str]) -> None:
    """Measure what is asked for, or what is missing, and draw it."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    unknown = set(words) - {*PIECES, "--draw"}
    if unknown:
        raise SystemExit(f"pieces are {', '.join(PIECES)}, not {', '.join(sorted(unknown))}")
    names = list(kept) if "--draw" in words else words or [name for name in PIECES if name not in kept]
    for name in names:
        if "--draw" not in words:
            kept[name] = json.loads(json.dumps(PIECES[name]()))
            KEPT.write_text(json.dumps(kept) + "\n")
        if name in DRAWN:
            DRAWN[name](kept[name])


if __name__ == "__main__":
    main(sys.argv[1:])
