"""What each variant of DQN costs beside the plain one, and what drawing by priority costs in memories of three sizes.

    python benchmarks/variants.py

Each is trained on CartPole alike, in turn, three times over; writes results/variants.md. About ten minutes on two
cores.
"""

from __future__ import annotations

import dataclasses
import sys
from statistics import median
from typing import Any

from marks import marks
from speed import HERE, commit, machine

import thorndike as td

STEPS, REPEATS = 60_000, 3
REPLAY = td.Uniform(capacity=100_000, batch_size=64, warmup=1_000)
PLAIN: dict[str, Any] = {
    "num_envs": 8, "rollout_length": 1, "replay_ratio": 1 / 8, "target_period": 250, "learning_rate": 5e-4,
    "torso": td.Torso(widths=(64, 64), activation="relu", init="uniform"), "replay": REPLAY,
}  # fmt: skip


def prioritised(capacity: int = 100_000) -> td.Prioritised:
    """The memory of `REPLAY`, drawn from by priority."""
    return td.Prioritised(capacity=capacity, batch_size=64, warmup=1_000)


def variants() -> dict[str, td.DQN]:
    """The rows of the table, the plain one first."""
    plain = td.DQN(**PLAIN, double=False)
    of = lambda **changes: dataclasses.replace(plain, **changes)  # noqa: E731
    return {
        "plain": plain,
        "double": of(double=True),
        "dueling": of(dueling=True),
        "three steps": of(replay=dataclasses.replace(REPLAY, n_step=3)),
        "prioritised replay, 10,000": of(replay=prioritised(10_000)),
        "prioritised replay, 100,000": of(replay=prioritised()),
        "prioritised replay, 1,000,000": of(replay=prioritised(1_000_000)),
        "noisy": of(noisy=0.5),
        "Munchausen": of(munchausen=td.Munchausen()),
        "C51, 51 atoms": of(head=td.Categorical()),
        "QR-DQN, 50 quantiles": of(head=td.Quantiles(n=50)),
        "IQN": of(head=td.Implicit()),
        "Rainbow": dataclasses.replace(
            td.Rainbow(), **{**PLAIN, "replay": dataclasses.replace(prioritised(), n_step=3)}
        ),
    }


def rate(algorithm: Any) -> float:
    """Steps per second, learning."""
    found = marks(algorithm, "CartPole-v1", STEPS, 5_000)
    return (found[-1][0] - found[0][0]) / (found[-1][1] - found[0][1])


def main() -> None:
    """Measure and write."""
    about, rates = machine(None), {name: [] for name in variants()}
    for _ in range(REPEATS):
        for name, algorithm in variants().items():
            rates[name].append(rate(algorithm))
            print(f"{name}: {rates[name][-1]:,.0f} steps/s", file=sys.stderr)
    first = rates["plain"]
    lines = ["# What the variants of DQN cost", "", "`python benchmarks/variants.py`", ""]
    lines += [f"Commit {commit()}. " + "; ".join(f"{key}: {value}" for key, value in about.items()) + ".", ""]
    lines += [
        "CartPole-v1, 8 environments, an update of 64 for each 8 steps, networks of 64-64; the time of a step with its "
    ]
    lines += [f"share of updates. Medians of {REPEATS} runs by turns (smallest to largest).", ""]
    lines += ["| variant | steps/s | time beside plain DQN |", "|---|---|---|"]
    for name, found in rates.items():
        ratios = [a / b for a, b in zip(first, found)]
        spread = f"{median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})"
        lines.append(f"| {name} | {spread} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    (HERE / "results" / "variants.md").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
