"""The script that draws curves, in a headless browser: from `metrics.jsonl` to the points of its lines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from importlib.resources import files
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest

pytest.importorskip("starlette")
from thorndike.ui.events import Stream
from thorndike.ui.folder import Folder
from thorndike.ui.processes import Processes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no headless browser is installed")
SCRIPT = files("thorndike.ui").joinpath("curves.js").read_text("utf-8")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 250, 62, 14, 12, 34
HOSTILE = "train/<img src=x onerror=document.title='harmed'>"

PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>whole</title></head>
<body data-kind="show" data-runs="{runs}"><div class="charts"></div>
<details open><summary>other</summary><div class="others"></div></details>
<pre id="errors"></pre><script>
window.addEventListener("error", (e) => document.querySelector("#errors").append(e.message));
const heard = {{}};
class EventSource {{ addEventListener(kind, act) {{ heard[kind] = act; }} }}
</script><script>{script}</script><script>
for (const [kind, data] of {events}) heard[kind]({{ data: JSON.stringify(data) }});
draw();
const numbers = [ticks(0, 417), ticks(-3e-7, 2e-7)];
document.body.dataset.said = JSON.stringify([...numbers, [0, 1234, -2.5e6, 0.004321].map(short)]);
</script></body></html>"""


def browsed(folder, events, names=("a", "b"), script=SCRIPT):
    """The page after these events: charts by their metric."""
    page = folder / "page.html"
    runs = urlencode([("run", name) for name in names]).replace("&", "&amp;")
    text = json.dumps(events).replace("</", "<\\/")
    page.write_text(PAGE.format(runs=runs, script=script.replace("</", "<\\/"), events=text), "utf-8")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"]
    done = subprocess.run([*words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    dom = done.stdout
    assert '<pre id="errors"></pre>' in dom, dom[-2000:]
    said = json.loads(re.search(r'data-said="([^"]*)"', dom).group(1).replace("&quot;", '"'))
    svgs = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", dom, re.DOTALL)]
    return SimpleNamespace(charts={svg.get("aria-label"): svg for svg in svgs}, said=said, dom=dom)


def points(element):
    text = element.get("points")
    return np.array([pair.split(",") for pair in text.split()], float) if text else np.empty((0, 2))


def parts(svg, name):
    return [x for x in svg.iter() if x.tag.endswith(name)]


def lines(svg):
    return [points(line) for line in parts(svg, "polyline")]


def events_of(folder, names=("a", "b")):
    """What the server tells of these runs."""
    stream = Stream(Folder(folder), Processes(), list(names))
    found = []
    for text in stream.look():
        kind, data = re.match(r"event: (\w+)\ndata: (.*)\n", text).groups()
        found.append([kind, json.loads(data)])
    return [pair for pair in found if pair[0] in ("anew", "rows")]


def scaled(x, low, high, begin, end):
    return begin + (np.asarray(x, float) - low) / (high - low) * (end - begin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs: `a` of two agents with gaps, NaN and a line torn at its end; `b` lies lower and is shorter."""
    folder = tmp_path_factory.mktemp("curves")
    for name in "ab":
        (folder / name).mkdir()
        (folder / name / "run.json").write_text("{}")
    rows = []
    for i in range(1, 11):
        row = {"steps": 1000 * i, "rollout/ep_rew_mean": [10.0 * i, 30.0 * i], HOSTILE: 5.0}
        if i in (4, 5):
            row["rollout/ep_rew_mean"] = [None, None]
        if i == 7:
            row["rollout/ep_rew_mean"] = [70.0, float("nan")]
        if i % 3 == 0:
            row["train/loss"] = float("nan") if i == 6 else 0.1 * i
        rows.append(json.dumps(row))
    (folder / "a" / "metrics.jsonl").write_text("\n".join(rows) + '\n{"steps": 11000, "rollout/ep_rew_m')
    low = [json.dumps({"steps": 500 * i, "rollout/ep_rew_mean": -20.0}) for i in range(1, 4)]
    (folder / "b" / "metrics.jsonl").write_text("\n".join(low) + "\n")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return browsed(folder, events_of(folder))


STEPS = np.array([1, 2, 3, 6, 7, 8, 9, 10]) * 1000
MEANS = np.array([20, 40, 60, 120, 70, 160, 180, 200])


def check_returns(page):
    """Both curves on one scale, from edge to edge, without what is missing, not finite or torn."""
    svg = page.charts["rollout/ep_rew_mean"]
    first, second = lines(svg)
    x = lambda v: scaled(v, 500, 10_000, LEFT, WIDTH - RIGHT)  # noqa: E731
    y = lambda v: scaled(v, -20, 300, HEIGHT - BOTTOM, TOP)  # noqa: E731
    np.testing.assert_allclose(first, np.stack([x(STEPS), y(MEANS)], 1), atol=0.051)
    np.testing.assert_allclose(second, np.stack([x([500, 1000, 1500]), y([-20] * 3)], 1), atol=0.051)
    (band,) = map(points, parts(svg, "polygon"))  # of the run of two agents alone
    low, high = MEANS * np.where(STEPS == 7000, 1, 0.5), MEANS * np.where(STEPS == 7000, 1, 1.5)
    np.testing.assert_allclose(band[:8], np.stack([x(STEPS), y(low)], 1), atol=0.051)
    np.testing.assert_allclose(band[8:], np.stack([x(STEPS), y(high)], 1)[::-1], atol=0.051)
    for text in parts(svg, "text")[:-1]:  # numbers are where they say
        number = float(text.text.replace("k", "e3"))
        if text.get("text-anchor") == "end":
            assert float(text.get("y")) - 4 == pytest.approx(float(y(number)), abs=0.06)
        else:
            assert float(text.get("x")) == pytest.approx(float(x(number)), abs=0.06)


def test_points_are_where_the_numbers_say(page):
    check_returns(page)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(HEIGHT - BOTTOM - (y - y0)", "(TOP + (y - y0)"),  # upside down
        ("points.flatMap((p) => [p[2], p[3]])", "points.map((p) => p[1])"),  # bands leave the picture
        ("const [x0, x1] = ends(lines.flatMap(", "const [x0, x1] = ends(lines.slice(0, 1).flatMap("),  # one run's scale
    ],
)
def test_mutants_are_noticed(right, wrong, folder):
    assert SCRIPT.count(right) == 1
    found = browsed(folder, events_of(folder), script=SCRIPT.replace(right, wrong))
    with pytest.raises(AssertionError):
        check_returns(found)


def test_what_one_run_alone_has(page):
    """A metric with gaps: the points that there are; the other run's line is empty, and nothing is NaN."""
    mine, other = lines(page.charts["train/loss"])
    assert len(mine) == 2
    assert len(other) == 0
    assert "NaN" not in page.dom


def test_names_are_text(page):
    assert HOSTILE in page.charts
    assert "<title>whole</title>" in page.dom
    assert "<img" not in page.dom.partition("</script>")[0].partition("<pre")[0]


def test_ticks_and_numbers(page):
    wide, narrow, numbers = page.said
    assert wide == [0, 100, 200, 300, 400]
    np.testing.assert_allclose(narrow, np.arange(-3, 3) * 1e-7, atol=1e-20)
    assert numbers == ["0", "1.23k", "-2.5M", "0.00432"]


def row(steps, value):
    return {"steps": steps, "tags": {"eval/mean_reward": [value] * 3}}


def test_begun_anew_constant_and_long(tmp_path):
    """A run that begins anew is drawn anew; constants, huge ones too, have a scale; of many points some are kept."""
    old = ["rows", {"run": "a", "rows": [row(n, 5.0) for n in range(9)]}]
    new = ["rows", {"run": "a", "rows": [row(100, 1.0), row(200, 2.0)]}]
    huge = ["rows", {"run": "a", "rows": [{"steps": n, "tags": {"train/huge": [1e20] * 3}} for n in (1, 2)]}]
    long = ["rows", {"run": "a", "rows": [{"steps": n, "tags": {"train/long": [n] * 3}} for n in range(9001)]}]
    found = browsed(tmp_path, [old, ["anew", {"run": "a"}], new, huge, long], names=("a",))
    (line,) = lines(found.charts["eval/mean_reward"])
    np.testing.assert_allclose(line, [[LEFT, HEIGHT - BOTTOM], [WIDTH - RIGHT, TOP]], atol=0.051)
    (flat,) = lines(found.charts["train/huge"])
    np.testing.assert_allclose(flat[:, 1], (HEIGHT - BOTTOM + TOP) / 2, atol=0.051)
    (many,) = lines(found.charts["train/long"])
    assert 2000 <= len(many) <= 4000
    np.testing.assert_allclose(many[[0, -1], 0], [LEFT, WIDTH - RIGHT], atol=0.5)
    assert (np.diff(many[:, 0]) >= 0).all()
