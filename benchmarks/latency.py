"""How long one action of a small network takes by JAX, NumPy and ONNX Runtime: `python benchmarks/latency.py`.

Times do not depend on what an agent has learned, so each is trained for a moment only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import thorndike as td
from thorndike.serve.latency import of_agent
from thorndike.serve.timing import spell

AGENTS = (("ppo", "CartPole-v1"), ("dqn", "CartPole-v1"), ("sac", "Pendulum-v1"))
CALLS = 5000


def main() -> None:
    print("| agent | environment | by | p50 | p90 | p99 | longest |\n|---|---|---|---|---|---|---|")
    for name, env in AGENTS:
        with tempfile.TemporaryDirectory() as folder:
            run = td.train(name, env, 1024, out=Path(folder) / "run", progress=False)
            for by, found in of_agent(run.agent(), CALLS).items():
                times = [spell(getattr(found, x)) for x in ("p50", "p90", "p99", "longest")]
                print(f"| {name} | {env} | {by} | {' | '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
