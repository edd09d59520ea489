"""Curves of what was logged: what they are of, what they are called, and that the picture shows all of it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from fake_runs import make, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

import thorndike as td
from thorndike.figures import style
from thorndike.runs.results.curves import band, curves, smoothed
from thorndike.runs.results.labels import labels
from thorndike.runs.storage.journal import Journal

RETURN = "rollout/ep_rew_mean"


def entries(figure) -> list[str]:
    """The legend's texts, wherever it is."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert len(legends) == 1
    return [text.get_text() for text in legends[0].get_texts()]


def names(paths) -> list[str]:
    return labels([curve for some in curves([Journal(path) for path in paths], RETURN, "steps") for curve in some])


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_moving_average_is_over_as_many_rows_on_either_side():
    y = np.random.default_rng(0).normal(size=(30, 2))
    y[4, 0] = y[7, 0] = np.nan
    for rows in (1, 2, 5, 30, 1000):
        found = smoothed(y, rows)
        for i in range(30):
            half = min(rows // 2, i, 29 - i)
            window = y[i - half : i + half + 1]
            expected = [np.nan if np.isnan(y[i, s]) else np.nanmean(window[:, s]) for s in range(2)]
            np.testing.assert_allclose(found[i], expected, rtol=1e-12)
    rising = np.arange(9.0)[:, None]
    np.testing.assert_allclose(smoothed(rising, 5), rising)  # with windows cut at the ends it would end at 7


def test_the_band_is_the_bootstrap_interval_of_the_mean_over_seeds():
    y = np.random.default_rng(1).normal(size=(5, 12))
    low, high = band(y)
    for i in range(5):
        found = stats.bootstrap((y[i],), np.mean, n_resamples=20_000, method="percentile", rng=2)
        size = found.confidence_interval.high - found.confidence_interval.low
        assert abs(low[i] - found.confidence_interval.low) < 0.1 * size
        assert abs(high[i] - found.confidence_interval.high) < 0.1 * size


def test_the_band_of_two_seeds_is_their_range_and_seeds_without_a_value_are_left_out():
    low, high = band(np.array([[1.0, 3.0], [5.0, 2.0]]))
    assert low.tolist() == [1, 2]
    assert high.tolist() == [3, 5]
    few = np.array([[1.0, np.nan, 1.0, np.nan], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(band(few), [[1, 2], [1, 2]])


def test_a_sweep_is_a_curve_for_each_configuration(tmp_path):
    values = np.arange(60.0).reshape(10, 6)
    run = make(tmp_path / "run", columns={RETURN: values}, seeds=2, sweep={"learning_rate": [0.1, 0.2, 0.3]})
    (found,) = curves([Journal(run)], RETURN, "steps")
    assert [curve.y.tolist() for curve in found] == [values[:, i : i + 2].tolist() for i in (0, 2, 4)]
    assert names([run]) == [f"PPO, learning_rate={rate}" for rate in (0.1, 0.2, 0.3)]
    (axes,) = td.plot(run).axes
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines[:3]], values.reshape(10, 3, 2).mean(2).T)


def test_against_episodes_each_seed_counts_its_own(tmp_path):
    episodes = np.stack([np.arange(1, 21) * 10, np.arange(1, 21) * 7], 1)
    run = make(tmp_path / "run", columns={RETURN: 2.0 * episodes, "rollout/episodes": episodes}, seeds=2)
    ((curve,),) = curves([Journal(run)], RETURN, "episodes")
    assert (curve.x[0], curve.x[-1]) == (10, 140)  # where both have been
    np.testing.assert_allclose(curve.y, 2.0 * curve.x[:, None] * np.ones(2))


def test_rows_without_a_value_are_left_out_and_those_without_seconds_are_between_the_others(tmp_path):
    columns = {RETURN: [np.nan, 1.0, 2.0, 3.0], "time/seconds": [1.0, 2.0, np.nan, 4.0]}
    ((curve,),) = curves([Journal(make(tmp_path / "run", columns=columns))], RETURN, "seconds")
    assert curve.x.tolist() == [2, 3, 4]
    assert curve.y[:, 0].tolist() == [1, 2, 3]


# --- names ------------------------------------------------------------------------------------------------------------


def test_runs_are_called_by_what_differs_between_them(tmp_path):
    ppo, dqn = make(tmp_path / "ppo", settings(clip=0.1)), make(tmp_path / "dqn", "DQN")
    assert names([ppo]) == ["PPO"]
    assert names([ppo, dqn]) == ["PPO", "DQN"]
    wider = settings(clip=0.1, torso=settings("Torso", widths=[256, 256]))
    assert names([ppo, make(tmp_path / "wider", wider)]) == [
        "PPO, torso.widths=None",
        "PPO, torso.widths=(256, 256)",
    ]
    core = make(tmp_path / "core", settings(clip=0.4, core=settings("GRU")))
    assert names([ppo, core]) == ["PPO, clip=0.1, core=None", "PPO, clip=0.4, core=GRU"]


def test_presets_and_defaults_are_called_so(tmp_path):
    preset = make(tmp_path / "preset", settings("DQN", "CartPole-v1"))
    changed = make(tmp_path / "changed", settings("DQN", "CartPole-v1", tau=0.9))
    plain, rate = make(tmp_path / "plain", settings("DQN")), make(tmp_path / "rate", settings("DQN", huber=0.1))
    assert names([preset, plain, rate, changed]) == [
        "DQN, preset",
        "DQN, defaults",
        "DQN, defaults, huber=0.1",
        "DQN, preset, tau=0.9",
    ]
    assert names([preset, changed]) == ["DQN, tau=1", "DQN, tau=0.9"]


def test_what_is_the_same_is_told_apart_by_seeds_and_then_by_folders(tmp_path):
    one, other = make(tmp_path / "a" / "x"), make(tmp_path / "b" / "x")
    four = make(tmp_path / "four", seed=3, seeds=4)
    assert names([one, four]) == ["PPO, seed 0", "PPO, seeds 3 to 6"]
    assert names([one, other]) == ["PPO, a/x", "PPO, b/x"]
    assert names([one, other, four]) == ["PPO, seed 0, a/x", "PPO, seed 0, b/x", "PPO, seeds 3 to 6"]
    assert names([one, one]) == ["PPO", "PPO"]


def test_environments_that_differ_are_told_apart(tmp_path):
    fields = {"map": ["S.", ".G"], "slip": 0.1}
    runs = [make(tmp_path / f"{slip}", "SARSA", "GridWorld", fields={**fields, "slip": slip}) for slip in (0.1, 0.5)]
    assert names(runs) == ["SARSA, env.slip=0.1", "SARSA, env.slip=0.5"]
    data = [make(tmp_path / name, "BC", dataset=f"/somewhere/{name}") for name in ("expert", "novice")]
    assert names(data) == ["BC, dataset=expert", "BC, dataset=novice"]


def test_names_may_be_given(tmp_path):
    one = make(tmp_path / "one")
    sweep = make(tmp_path / "sweep", seeds=3, sweep={"clip": [0.1, 0.2]})
    found = entries(td.plot([one, sweep], labels=["mine", "theirs"], threshold=None))
    assert found[:3] == ["mine", "theirs, clip=0.1 (3 seeds)", "theirs, clip=0.2 (3 seeds)"]
    with pytest.raises(td.ConfigError, match="1 labels for 2 runs: give one for each run"):
        td.plot([one, sweep], labels=["mine"])


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_the_figure_of_one_run(tmp_path):
    figure = td.plot(str(make(tmp_path / "run")))
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert td.plot(tmp_path / "run", tmp_path / "new" / "curve.svg") is not None
    assert "<svg" in (tmp_path / "new" / "curve.svg").read_text()
    with pytest.raises(td.ConfigError, match=r"cannot write .*curve\.xyz"):
        td.plot(tmp_path / "run", tmp_path / "curve.xyz")


def test_environments_and_batches_have_axes_of_their_own(tmp_path):
    made = [
        make(tmp_path / "ppo"),
        make(tmp_path / "bc", "BC", dataset="/data/expert"),
        make(tmp_path / "lake", "QLearning", "FrozenLake-v1"),
        make(tmp_path / "dqn", "DQN"),
    ]
    figure = td.plot(made)
    found = [(axes.get_title(), axes.get_xlabel(), len(axes.lines)) for axes in figure.axes]
    assert found == [  # a line more for each threshold
        ("CartPole-v1", "environment steps", 3),
        ("CartPole-v1, from a dataset", "batches", 2),
        ("FrozenLake-v1", "environment steps", 2),
    ]
    assert entries(figure) == ["PPO", "BC", "QLearning", "DQN", "reward threshold"]


def level(axes) -> list[float]:
    return [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]


def test_the_threshold_is_the_registered_one_or_a_given_one_or_none(tmp_path):
    run = make(tmp_path / "run", env="gymnasium/CartPole-v1", columns={RETURN: [1.0, 2.0], "train/loss": [1.0, 2.0]})
    grid = make(tmp_path / "grid", "SARSA", "GridWorld")
    assert level(td.plot(run).axes[0]) == [475.0]
    assert level(td.plot(run, threshold=100).axes[0]) == [100]
    assert level(td.plot(run, threshold=None).axes[0]) == []
    assert level(td.plot(run, y="train/loss").axes[0]) == []
    assert level(td.plot(grid).axes[0]) == []


def test_bands_are_explained(tmp_path):
    made = [make(tmp_path / str(n), settings(clip=0.1 * n), seeds=n) for n in (1, 2, 3)]
    bands = {"95% bootstrap interval over seeds", "range of both seeds"}
    assert entries(td.plot(made, threshold=None)) == [
        "PPO, clip=0.1",
        "PPO, clip=0.2 (2 seeds)",
        "PPO, clip=0.3 (3 seeds)",
        "95% bootstrap interval over seeds",
        "range of both seeds",
    ]
    assert bands & set(entries(td.plot(made[1]))) == {"range of both seeds"}
    assert not bands & set(entries(td.plot(made[0])))


def test_evaluations_while_training_are_a_curve_of_their_own(tmp_path):
    columns = {RETURN: np.arange(1.0, 9.0), "eval/mean_reward": [np.nan, np.nan, np.nan, 50.0] * 2}
    figure = td.plot(make(tmp_path / "run", columns=columns), threshold=None)
    training, evaluation = figure.axes[0].lines
    assert training.get_ydata().tolist() == list(range(1, 9))
    assert evaluation.get_xdata().tolist() == [4000, 8000]
    assert evaluation.get_ydata().tolist() == [50, 50]
    assert entries(figure) == ["PPO", "evaluation while training"]
    alone = td.plot(tmp_path / "run", y="eval/mean_reward", threshold=None)
    assert [line.get_ydata().tolist() for line in alone.axes[0].lines] == [[50, 50]]


def test_what_was_not_smoothed_is_behind(tmp_path):
    noisy = np.random.default_rng(0).normal(size=40)
    behind, front = td.plot(make(tmp_path / "run", columns={RETURN: noisy}), smooth=9, threshold=None).axes[0].lines
    np.testing.assert_allclose(behind.get_ydata(), noisy, rtol=1e-6)
    np.testing.assert_allclose(front.get_ydata(), smoothed(noisy[:, None], 9)[:, 0], rtol=1e-6)
    assert behind.get_alpha() < 0.5
    assert behind.get_color() == front.get_color()


def test_twenty_runs_look_different_and_nothing_is_cut_off(tmp_path):
    assert len({str(style(i)) for i in range(40)}) == 40
    made = [make(tmp_path / f"{i}", settings(clip=0.01 * i)) for i in range(19)]
    long = make(tmp_path / "long", "SARSA", "environment_with_a_rather_long_name/of_a_package-v0")
    for runs in ([*made, long], made, made[:2], [long]):
        figure = td.plot(runs, smooth=3)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        window, shown = figure.bbox, canvas.get_renderer()
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
        texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
        for part in [*texts, *legends]:
            box = part.get_window_extent(shown)
            inside = box.x0 >= window.x0 and box.x1 <= window.x1 and box.y0 >= window.y0 and box.y1 <= window.y1
            assert inside, part
        if len(runs) > 4:  # no line is behind the legend
            legend = legends[0].get_window_extent(shown)
            assert not any(legend.overlaps(axes.get_window_extent(shown)) for axes in figure.axes)


def test_whatever_was_logged_can_be_drawn(tmp_path):
    run = make(tmp_path / "run", columns={RETURN: [1.0, 2.0], "train/entropy": [0.5, 0.25], "time/fps": [7.0, 8.0]})
    axes = td.plot(run, y="train/entropy").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.25]
    assert axes.get_ylabel() == "train/entropy"
    with pytest.raises(
        td.UnknownNameError, match=r"nothing was logged as 'train/entropi' \(did you mean 'train/entropy"
    ):
        td.plot(run, y="train/entropi")


def test_what_is_logged_once_for_all_seeds_is_one_curve(tmp_path):
    columns = {RETURN: np.ones((5, 6)), "time/fps": np.arange(5.0)}
    run = make(tmp_path / "run", columns=columns, seeds=2, sweep={"clip": [0.1, 0.2, 0.3]})
    figure = td.plot(run, y="time/fps")
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [[0, 1, 2, 3, 4]]
    assert entries(figure) == ["PPO"]


def test_runs_without_a_value_yet_are_left_out_with_a_word(tmp_path):
    good, new = make(tmp_path / "good"), make(tmp_path / "new", columns={RETURN: [np.nan, np.nan]})
    with pytest.warns(UserWarning, match=r"left out .*new: it has logged no value of rollout/ep_rew_mean yet"):
        assert len(td.plot([good, new], threshold=None).axes[0].lines) == 1
    with pytest.raises(td.ConfigError, match=r"nothing to draw yet: no episode has ended in .*new"):
        td.plot(new)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"x": "epochs"}, "x must be one of steps, episodes, seconds, got 'epochs'"),
        ({"smooth": 0}, "smooth is a number of rows, at least 1, got 0"),
        ({"smooth": 2.5}, r"got 2\.5"),
    ],
)
def test_options_that_cannot_work(options, says, tmp_path):
    with pytest.raises(td.ConfigError, match=says):
        td.plot(make(tmp_path / "run"), **options)
    with pytest.raises(td.ConfigError, match="no run to draw"):
        td.plot([])
    with pytest.raises(td.CheckpointError, match="there is no run at"):
        td.plot(tmp_path / "nowhere")


def test_no_class_and_no_jax_is_needed(tmp_path):
    make(tmp_path / "run", {"type": "own Mine", "learning_rate": 0.1})
    code = f"import sys, thorndike as td; td.plot({str(tmp_path / 'run')!r}, {str(tmp_path / 'a.png')!r}); "
    code += "print([name for name in ('jax', 'equinox') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert entries(td.plot(tmp_path / "run", threshold=None)) == ["Mine"]
