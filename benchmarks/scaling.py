"""What a step costs as environments, replay memory and seeds grow, plotted.

    python benchmarks/scaling.py

Each point is a process of its own that trains on CartPole-v1 and prints the seconds between its rows of metrics; a cost
is their median. Writes results/scaling.json, scaling.md and scaling.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from speed import commit, machine

HERE = Path(__file__).resolve().parent
CURVES = {  # what grows: (values, how a point is read)
    "environments": ([1, 4, 16, 64, 256, 1024], "PPO, rollouts of 128 steps, 4 epochs of 4 minibatches"),
    "replay": ([10_000, 100_000, 1_000_000], "DQN with a full memory, 8 environments, an update of 64 per 8 steps"),
    "seeds": ([1, 2, 4, 8, 16, 32], "PPO as above with 8 environments, steps of all seeds together"),
}
ROWS = 12  # rows of metrics per point; the first two are left out


def point(curve: str, value: int, rows: int) -> list[float]:
    """Microseconds per environment step, for each row of metrics."""
    from marks import marks

    import thorndike as td

    seeds, envs = (value if curve == "seeds" else 1), (value if curve == "environments" else 8)
    if curve == "replay":
        memory = td.Uniform(capacity=value, batch_size=64, warmup=value)
        algorithm: Any = td.DQN(num_envs=8, rollout_length=1, replay_ratio=1 / 8, replay=memory)
        every, start = 24_000, value
    else:
        algorithm = td.PPO(num_envs=envs, rollout_length=128, epochs=4, minibatch_size=32 * envs)
        every, start = max(128 * envs, 16_384 // max(1, seeds // 2)), 0
    found = marks(algorithm, "CartPole-v1", start + every * rows, every, seeds)
    costs = [1e6 * (t2 - t1) / (n2 - n1) for (n1, t1, _), (n2, t2, _) in itertools.pairwise(found)]
    return costs[2:]


def measure(curve: str, value: int, rows: int) -> list[float]:
    """`point` in a process of its own."""
    command = [sys.executable, __file__, "--point", curve, str(value), "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    if done.returncode:
        raise SystemExit(f"{curve} {value} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def draw(curves: dict[str, dict[int, list[float]]], path: Path) -> None:
    """One panel for each curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(11, 3.4), layout="constrained")
    for axis, (name, points) in zip(panels, curves.items()):
        middle = [statistics.median(costs) for costs in points.values()]
        below = [m - min(costs) for m, costs in zip(middle, points.values())]
        above = [max(costs) - m for m, costs in zip(middle, points.values())]
        axis.errorbar([*points], middle, [below, above], marker="o", capsize=3)
        axis.set(xscale="log", ylim=(0, None), xlabel=name, title=CURVES[name][1].partition(" ")[0].strip(","))
        axis.set_xticks(list(points), [f"{value:,}" for value in points])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("µs per environment step")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", nargs=2, metavar=("CURVE", "VALUE"), help="one point, in this process")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    if args.point:
        print(json.dumps(point(args.point[0], int(args.point[1]), args.rows)))
        return
    report: dict[str, Any] = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "machine": machine(None)}
    curves: dict[str, dict[int, list[float]]] = {}
    for name, (values, _) in CURVES.items():
        curves[name] = {}
        for value in values:
            curves[name][value] = measure(name, value, args.rows)
            print(f"{name} {value:,}: {statistics.median(curves[name][value]):.2f} µs per step", flush=True)
    lines = ["# What a step costs", "", "`python benchmarks/scaling.py`", ""]
    lines += [f"Commit {report['commit']}, {report['date']}.", "", "Medians over rows of metrics of one run per point."]
    lines += ["", *(f"- {key}: {value}" for key, value in report["machine"].items()), "", "![](scaling.png)"]
    for name, points in curves.items():
        lines += ["", f"## {name.capitalize()}", "", CURVES[name][1] + ".", ""]
        lines += [f"| {name} | µs per step | range | steps/s |", "| --- | --- | --- | --- |"]
        for value, costs in points.items():
            m = statistics.median(costs)
            lines.append(f"| {value:,} | {m:.2f} | {min(costs):.2f} to {max(costs):.2f} | {1e6 / m:,.0f} |")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scaling.json").write_text(json.dumps({**report, "curves": curves}, indent=2) + "\n")
    (args.out / "scaling.md").write_text("\n".join(lines) + "\n")
    draw(curves, args.out / "scaling.png")


if __name__ == "__main__":
    main()
