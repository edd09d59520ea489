"""The page of a run: what is in it, that names cannot do harm, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from runs import fake_runs
from thorndike.cli import main
from thorndike.drivers.evaluation import Evaluation
from thorndike.pages import _ticks, chart, dots
from thorndike.runs.results.report import report

VOID = {"meta", "br", "line", "polyline", "polygon", "circle", "rect", "img", "source"}


class Checked(HTMLParser):
    """Raises where elements are not closed in their order; collects tags and what they refer to."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_of_a_run(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "rollout/ep_rew_mean": np.linspace(10, 400, 30)[:, None] + rng.normal(0, 9, (30, 3)),
        "eval/mean_reward": np.linspace(12, 380, 30)[:, None] + np.zeros(3),
        "train/entropy": np.linspace(0.7, 0.1, 30)[:, None] + np.zeros(3),
    }
    settings = fake_runs.settings("PPO", clip=0.33)
    run = fake_runs.make(tmp_path / "run", settings, columns=columns, seeds=3)
    evaluation = Evaluation(rng.normal(300, 5, (3, 4)), np.ones((3, 4), int))
    page = report(run, tmp_path / "report.html", {run.absolute(): evaluation}).read_text()
    found = Checked(page)
    said = " ".join(found.words)
    assert "clip=0.33" in said
    assert "learning_rate" not in page.partition("<details>")[0]  # as it is by default
    assert "learning_rate" in said
    assert "CartPole-v1" in said
    assert "3 seeds" in said
    assert all(f"{value}" in said for value in evaluation.to_json()["per_run"])
    assert "train/entropy" in said
    assert "sign of trouble" in said or "from step" in said
    assert found.tags.count("svg") >= 3
    assert not found.links
    assert "script" not in found.tags
    assert not re.search(r"https?://", page)
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 300_000
    last = re.search(r'<polyline[^>]*points="([^"]*)"', page).group(1).split()
    heights = [float(pair.split(",")[1]) for pair in last]
    assert heights[0] > heights[-1]  # a return that rises is drawn upwards


def test_names_are_text(tmp_path):
    bad = "<script>alert(1)</script>"
    columns = {"rollout/ep_rew_mean": np.ones(3), f"train/{bad}": np.ones(3)}
    run = fake_runs.make(tmp_path / "<b>run", {"type": bad, bad: bad}, env=bad, columns=columns)
    page = report([run], tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "<b>" not in page
    Checked(page)


def test_what_is_outside_of_its_range_is_said(tmp_path):
    flat = np.ones((30, 2))
    columns = {
        "rollout/ep_rew_mean": np.linspace(10, 400, 30)[:, None] * flat,
        "train/approx_kl": flat * [0.01, 0.2],
        "train/explained_variance": 0.5 * flat,
    }
    run = fake_runs.make(tmp_path / "run", columns=columns, seeds=2)
    rows = re.findall(r"<tr>(.*?)</tr>", report(run, tmp_path / "report.html").read_text())
    (kl,) = [row for row in rows if "train/approx_kl" in row and "0.0005 to 0.05" in row]
    (explained,) = [row for row in rows if "train/explained_variance" in row and "0 to 1" in row]
    assert "outside in 1 of 2 agents" in kl
    assert "outside" not in explained


def test_every_return_of_an_evaluation_is_a_dot(tmp_path):
    returns = np.array([[0.0, 5.0, 10.0], [2.0, 2.0, np.nan]])
    page = dots("returns", [("a", returns[0]), ("b", returns[1])])
    at = [float(x) for x in re.findall(r'<circle class="dot" cx="([^"]*)"', page)]
    assert len(at) == 5  # NaN is none
    place = np.interp(returns[np.isfinite(returns)], [0, 10], [at[0], at[2]])  # to one scale
    np.testing.assert_allclose(at, place, atol=0.11)
    means = [float(x) for x in re.findall(r'<line class="mean" x1="([^"]*)"', page)]
    np.testing.assert_allclose(means, np.interp([5, 2], [0, 10], [at[0], at[2]]), atol=0.11)


def test_settings_that_differ_between_runs(tmp_path):
    """Beside a run of another algorithm, too, which has no such setting."""
    kinds = {"a": {"clip": 0.2}, "b": {"clip": 0.31}, "c": {}}
    runs = [
        fake_runs.make(tmp_path / name, fake_runs.settings("PPO" if changes else "QLearning", **changes))
        for name, changes in kinds.items()
    ]
    page = report(runs, tmp_path / "report.html").read_text()
    assert "<td>clip=0.2</td>" in page
    assert "<td>clip=0.31</td>" in page
    assert "epochs=" not in page


def test_several_runs_and_the_command(tmp_path, capsys):
    a = fake_runs.make(tmp_path / "a")
    b = fake_runs.make(tmp_path / "b", env="Pendulum-v1", seeds=2)
    empty = fake_runs.make(tmp_path / "c", columns={"rollout/ep_rew_mean": np.full(2, np.nan)})
    assert main(["report", *map(str, (a, b, empty))]) == 0
    page = (a / "runs.html").read_text()
    assert capsys.readouterr().out.strip() == str(a / "runs.html")
    assert not (a / "report.html").exists()  # which training wrote, about this run alone
    found = Checked(page)
    assert found.tags.count("svg") == 2
    assert "3 runs" in found.words
    assert main(["report", str(empty), "--no-play", "--out", str(tmp_path / "empty.html")]) == 0
    assert "No returns of episodes are logged yet" in (tmp_path / "empty.html").read_text()


def test_a_run_without_an_agent_has_a_page(tmp_path, capsys):
    run = fake_runs.make(tmp_path / "run")
    with pytest.warns(UserWarning, match="no checkpoint yet"):
        assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = (run / "report.html").read_text()
    assert "There is no film: " in page
    assert "There is no explanation: " in page


def test_one_evaluation_is_a_dot_and_numbers_at_an_axis_differ():
    page = chart("evaluations", [([10_240], [500.0], None, None)])
    assert re.findall(r"<text[^>]*>([^<]*)</text>", page) == ["500", "10.2k", "environment steps"]
    assert re.search(r'<circle [^>]*cx="([^"]*)"', page)[1] in re.findall(r'<text x="([^"]*)"', page)  # over its steps
    close = chart("evaluations", [([10_240, 10_250], [499.99, 500.01], None, None)])
    words = re.findall(r"<text[^>]*>([^<]*)</text>", close)
    assert len(set(words)) == len(words) > 5
    assert "circle" not in close


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.26, 417), (1e3, 4e4), (-0.5, 0.5), (3e-9, 4e-9), (-7e8, 1e3)])
def test_ticks_are_round_and_within(low, high):
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 * abs(low) <= ticks[0] <= ticks[-1] <= high + 1e-9 * abs(high)
    step = ticks[1] - ticks[0]
    assert float(f"{step:.0e}") == pytest.approx(step)
    assert ticks[0] == pytest.approx(step * round(ticks[0] / step))


@pytest.mark.parametrize(("words", "message"), [([], "at least one run"), (["nowhere"], "no run at nowhere")])
def test_mistakes(words, message, capsys):
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err
