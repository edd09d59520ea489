"""Grid worlds: dynamics from the map by an independent walk over its text, slips, the model, bad maps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from thorndike.configuration import check, from_json, to_json
from thorndike.envs.batched import Batched
from thorndike.envs.grid.grid_world import GridState, GridWorld, cliff_walking, four_rooms
from thorndike.envs.grid.picture import draw_values
from thorndike.errors import ConfigError
from thorndike.exports import known_configs
from thorndike.types import FiniteMDP

EVERYTHING = GridWorld(map=("S..G", "C.#C", "#S.."), step_reward=-0.5, goal_reward=3.0, cliff_reward=-7.0, slip=0.3)
UP, RIGHT, DOWN, LEFT = range(4)


def walk(rows, cell: int, action: int) -> tuple[int, str]:
    """The cell entered and its character, by hand."""
    columns = len(rows[0])
    y, x = cell // columns, cell % columns
    if action == UP and y > 0:
        y -= 1
    elif action == DOWN and y < len(rows) - 1:
        y += 1
    elif action == LEFT and x > 0:
        x -= 1
    elif action == RIGHT and x < columns - 1:
        x += 1
    return (cell, rows[cell // columns][cell % columns]) if rows[y][x] == "#" else (y * columns + x, rows[y][x])


def random_map(seed: int) -> tuple[str, ...]:
    rng = np.random.default_rng(seed)
    cells = rng.choice(list(". #C"), p=[0.5, 0.1, 0.25, 0.15], size=(4, 6))
    cells.flat[rng.choice(24, 3, replace=False)] = ["S", "G", "S"]
    return tuple("".join(row) for row in cells)


@jax.jit
def every_step(grid, states, actions, keys):
    over_keys = jax.vmap(grid.step, (None, None, 0))
    return jax.vmap(jax.vmap(over_keys, (None, 0, 0)), (0, None, 0))(states, actions, keys)


def outcomes(grid: GridWorld, samples: int):
    """Step from every cell with every action, `samples` times: obs, reward, terminated [S, A, samples]."""
    cells = grid.observation_space.n
    keys = jax.random.split(jax.random.key(3), (int(cells), 4, samples))
    step = every_step(grid, GridState(jnp.arange(cells)), jnp.arange(4), keys)
    return np.asarray(step.obs), np.asarray(step.reward), np.asarray(step.terminated)


@pytest.mark.parametrize("cliff_ends", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_moves_follow_the_map(seed, cliff_ends):
    rows = random_map(seed)
    grid = GridWorld(map=rows, goal_reward=5.0, cliff_reward=-9.0, cliff_ends=cliff_ends)
    starts = {i for i, char in enumerate("".join(rows)) if char == "S"}
    obs, reward, terminated = outcomes(grid, 8)
    for cell, char in enumerate("".join(rows)):
        if char in "GC#":
            continue
        for action in range(4):
            to, entered = walk(rows, cell, action)
            back = entered == "C" and not cliff_ends
            assert set(obs[cell, action].tolist()) <= (starts if back else {to})
            assert set(reward[cell, action].tolist()) == {{"G": 5.0, "C": -9.0}.get(entered, -1.0)}
            assert set(terminated[cell, action].tolist()) == {entered == "G" or (entered == "C" and cliff_ends)}


def test_slip_frequencies():
    """With slip 0.4 the chosen move is made with 0.6 + 0.1, each other with 0.1."""
    grid, n = GridWorld(map=("...", ".S.", "..G"), slip=0.4), 40_000
    step = jax.vmap(grid.step, (None, None, 0))
    end = step(GridState(jnp.int32(4)), jnp.int32(UP), jax.random.split(jax.random.key(0), n)).obs
    for cell, p in ((1, 0.7), (5, 0.1), (7, 0.1), (3, 0.1)):
        assert abs(np.mean(np.asarray(end) == cell) - p) < 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("cliff_ends", [False, True])
def test_transitions_are_those_of_step(cliff_ends):
    grid, n = dataclasses.replace(EVERYTHING, cliff_ends=cliff_ends), 4_000
    probability, reward, terminal = grid.transitions()
    np.testing.assert_allclose(probability.sum(-1), 1.0, rtol=1e-12)
    assert isinstance(grid, FiniteMDP)
    obs, rewards, terminated = outcomes(grid, n)
    chars = "".join(grid.map)
    assert terminal.tolist() == [char == "G" or (char == "C" and cliff_ends) for char in chars]
    for cell, char in enumerate(chars):
        if char in "GC#":
            np.testing.assert_array_equal(probability[cell, :, cell], 1.0)
            np.testing.assert_array_equal(reward[cell], 0.0)
            continue
        for action in range(4):
            p = probability[cell, action]
            seen = np.bincount(obs[cell, action], minlength=len(chars)) / n
            assert (np.abs(seen - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-9).all()
            got = rewards[cell, action].astype(float)
            assert abs(got.mean() - reward[cell, action]) <= 5 * got.std() / np.sqrt(n) + 1e-6
            assert abs(terminated[cell, action].mean() - p[terminal].sum()) <= 5 * 0.5 / np.sqrt(n)


@pytest.mark.parametrize(
    ("field", "value"), [("step_reward", 0.0), ("goal_reward", 0.0), ("cliff_reward", 0.0), ("slip", 0.9)]
)
def test_every_field_matters(field, value):
    plain, other = outcomes(EVERYTHING, 16), outcomes(dataclasses.replace(EVERYTHING, **{field: value}), 16)
    assert not all(np.array_equal(a, b) for a, b in zip(plain, other))
    assert not np.array_equal(
        EVERYTHING.transitions()[1], dataclasses.replace(EVERYTHING, **{field: value}).transitions()[1]
    )


@pytest.mark.parametrize(
    ("rows", "starts"),
    [(("S..", "..G"), {0}), (("S.S", "S.G"), {0, 2, 3}), (("..C", "# G"), {0, 1, 4})],
    ids=["one", "several", "any free cell"],
)
def test_starts_are_uniform(rows, starts):
    n = 6_000
    obs = np.asarray(jax.vmap(GridWorld(map=rows).reset)(jax.random.split(jax.random.key(1), n)).obs)
    assert set(obs.tolist()) == starts
    p = 1 / len(starts)
    for cell in starts:
        assert abs(np.mean(obs == cell) - p) <= 4 * np.sqrt(p * (1 - p) / n)


BAD = {
    "ragged": (("S..", ".G"), "ragged"),
    "no goal": (("S..", "..."), "no goal"),
    "unknown": (("S.x", "..G"), "unknown characters"),
    "no rows": ((), "empty"),
    "no columns": (("", ""), "empty"),
    "no start": (("G#", "#C"), "nowhere to start"),
    "one string": ("S..G", "tuple of text rows"),
    "a list": (["S..G"], "tuple of text rows"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_maps_are_refused(bad):
    rows, message = BAD[bad]
    grid, key = GridWorld(map=rows), jax.random.key(0)
    uses = [
        grid.check,
        lambda: grid.observation_space,
        lambda: grid.reset(key),
        lambda: grid.step(GridState(jnp.int32(0)), jnp.int32(0), key),
        lambda: Batched(grid, 2).reset(key),
        grid.transitions,
        lambda: grid.render(GridState(jnp.int32(0))),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match=message):
            use()
    with pytest.raises(ConfigError):
        check(grid)


@pytest.mark.parametrize("slip", [-0.1, 1.1, np.array([0.2, 2.0])])
def test_slip_is_a_probability(slip):
    with pytest.raises(ConfigError, match="probability"):
        check(GridWorld(slip=slip))
    check(GridWorld(slip=np.array([0.0, 0.5, 1.0])))


def test_survives_json():
    grid = four_rooms()
    assert from_json(to_json(grid), known_configs()) == grid


def solve(grid: GridWorld, discount: float) -> np.ndarray:
    probability, reward, terminal = grid.transitions()
    q = np.zeros_like(reward)
    for _ in range(500):
        q = reward + discount * probability @ (q.max(1) * ~terminal)
    return q


@pytest.mark.parametrize(("grid", "best"), [(GridWorld(), 3.0), (cliff_walking(), -13.0)])
def test_the_models_optimum_is_walked(grid, best):
    """Dynamic programming's value of the start is what its greedy policy then earns, step by step."""
    q = solve(grid, 1.0)
    assert q[grid.layout.starts[0]].max() == pytest.approx(best)
    step, policy, key = grid.reset(jax.random.key(0)), q.argmax(1), jax.random.key(1)
    total = 0.0
    for _ in range(20):
        step = grid.step(step.state, policy[int(step.obs)], key)
        total += float(step.reward)
        if step.terminated:
            break
    assert bool(step.terminated)
    assert total == pytest.approx(best)


def test_four_rooms_is_suttons():
    """13x13 with 104 cells to stand on, all connected; an action works with 2/3, the others have 1/9 each."""
    grid = four_rooms()
    layout = grid.layout
    assert (layout.rows, layout.columns, int((~layout.wall).sum())) == (13, 13, 104)
    assert len(layout.starts) == 103
    assert np.flatnonzero(layout.goal).tolist() == [7 * 13 + 9]
    border = np.pad(np.zeros((11, 11), bool), 1, constant_values=True).ravel()
    assert layout.wall[border].all()
    centre = 2 * 13 + 2
    probability, reward, _ = grid.transitions()
    around = probability[centre, RIGHT, [centre - 13, centre + 1, centre + 13, centre - 1]]
    np.testing.assert_allclose(around, [1 / 9, 2 / 3, 1 / 9, 1 / 9])
    assert reward[6 * 13 + 9, DOWN] == pytest.approx(2 / 3)
    assert (solve(grid, 0.9).max(1)[layout.starts] > 0).all()


def test_render_shows_what_is_there():
    """Walls, cliffs, goal and agent each have their colour in the middle of their cell or around it."""
    grid = EVERYTHING
    frame = grid.render(GridState(jnp.int32(0)))
    size = frame.shape[1] // 4

    def colours(cell):
        y, x = divmod(cell, 4)
        block = frame[y * size + 4 : (y + 1) * size - 4, x * size + 4 : (x + 1) * size - 4]
        return {tuple(c) for c in block.reshape(-1, 3).tolist()}

    wall, cliff, flag, agent = (0x2B, 0x3A, 0x55), (0xB5, 0x48, 0x3A), (0x3F, 0x9D, 0x5D), (0xD9, 0x82, 0x2B)
    assert colours(6) == {wall}
    assert cliff in colours(4)
    assert flag in colours(3)
    assert agent in colours(0)
    assert agent not in colours(9)
    assert agent in {tuple(c) for c in grid.render(GridState(9))[2 * size :].reshape(-1, 3).tolist()}


def test_picture_of_values(tmp_path):
    grid = cliff_walking()
    q = solve(grid, 1.0)
    figure = draw_values(grid, q, tmp_path / "cliff.png")
    assert isinstance(figure, Figure)
    assert (tmp_path / "cliff.png").read_bytes()[:4] == b"\x89PNG"
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    arrows = [text for text in figure.axes[0].texts if not text.get_text()]
    assert sum(text.get_text() == "cliff" for text in texts) == 10
    assert sum(text.get_text() == "goal" for text in texts) == 1
    assert {text.get_text() for text in texts if text.get_position() == (0, 3.36)} == {"-13"}
    stand = ~(grid.layout.cliff | grid.layout.goal)
    assert len(arrows) == np.isclose(q, q.max(1, keepdims=True))[stand].sum()
    up = next(arrow for arrow in arrows if arrow.xyann[0] == 0 and 2.5 < arrow.xyann[1] < 3.5)
    assert up.xy[1] < up.xyann[1]


def test_picture_of_walls_and_one_value():
    """All values equal, and walls that have no number."""
    figure = draw_values(four_rooms(), np.zeros((169, 4)))
    assert sum(text.get_text() == "0" for text in figure.axes[0].texts) == 103
    with pytest.raises(ConfigError, match=r"\[25, 4\]"):
        draw_values(GridWorld(), np.zeros((24, 4)))
