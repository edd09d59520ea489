"""Speed and memory beside Stable-Baselines3 and SBX on the same work: see README.md.

    python benchmarks/speed.py --peers .venv-bench/bin/python

Each measurement is a process of its own, ours and theirs by turns. Prints a table and writes speed.json and speed.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
OURS, THEIRS = HERE / "thorndike_run.py", HERE / "peers" / "sb3_run.py"
PACKAGES = {
    "thorndike": ("thorndike", "jax", "jaxlib", "envpool", "numpy", "gymnasium", "mujoco"),
    "peers": ("stable-baselines3", "sb3-contrib", "torch", "sbx-rl", "jax", "ale-py", "numpy", "gymnasium", "mujoco"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison. The two sides take different numbers of steps, so that both are timed for about as long."""

    title: str
    work: str
    steps: tuple[int, int]  # ours (of each seed) and theirs
    quick: tuple[int, int]  # the same, to see that it runs
    aim: float | None  # how many times as fast as theirs
    cold: bool = False  # time the whole process, not steps per second
    repeats: int = 3  # measurements of each side


CASES = {
    "ppo-cartpole": Case(
        "PPO CartPole-v1", "8 envs x 128 steps, 4 epochs, minibatches of 256, nets 64-64",
        (1_000_000, 100_000), (50_000, 4_096), 15,
    ),
    "ppo-cartpole-8-seeds": Case(
        "PPO CartPole-v1, 8 seeds", "the same for 8 seeds in one process, steps in total; theirs one seed",
        (500_000, 100_000), (20_000, 4_096), 25,
    ),
    "dqn-cartpole": Case(
        "DQN CartPole-v1", "8 envs, an update of 64 per 8 steps, buffer 100k, target copy per 250 updates, 64-64",
        (1_000_000, 30_000), (50_000, 4_000), 30,
    ),
    "sac-halfcheetah": Case(
        "SAC HalfCheetah-v5", "1 env, an update of 256 per step, buffer 1M, nets 256-256",
        (6_000, 3_000), (1_600, 200), 2,
    ),
    "sac-halfcheetah-sbx": Case(
        "SAC HalfCheetah-v5, SBX", "the same; the peer is SBX, Stable-Baselines3 in JAX",
        (6_000, 4_500), (1_600, 400), 1.4, repeats=9,  # single pairs differ by more than the aim is away
    ),
    "a2c-cartpole": Case(
        "A2C CartPole-v1", "8 envs x 8 steps, RMSProp, nets 64-64",
        (500_000, 30_000), (20_000, 2_000), 10,
    ),
    "trpo-cartpole": Case(
        "TRPO CartPole-v1", "8 envs x 128 steps, 15 conjugate gradients, 10 passes of the critic, minibatches of 128; "
        "the peer is sb3-contrib's",
        (300_000, 50_000), (20_000, 4_096), 10,
    ),
    "qr-dqn-cartpole": Case(
        "QR-DQN CartPole-v1", "as DQN, with 50 quantiles; the peer is sb3-contrib's",
        (300_000, 20_000), (20_000, 4_000), 10,
    ),
    "td3-halfcheetah": Case(
        "TD3 HalfCheetah-v5", "1 env, an update of 256 per step, buffer 1M, nets 256-256",
        (6_000, 3_000), (1_600, 200), 2,
    ),
    "tqc-halfcheetah": Case(
        "TQC HalfCheetah-v5", "the same, 5 critics of 25 quantiles; the peer is sb3-contrib's",
        (3_000, 600), (1_600, 100), 2,
    ),
    "crossq-halfcheetah": Case(
        "CrossQ HalfCheetah-v5", "the same, 2 critics of 1024-1024; the peer is sb3-contrib's",
        (2_000, 200), (1_400, 50), 2,
    ),
    "crossq-halfcheetah-sbx": Case(
        "CrossQ HalfCheetah-v5, SBX", "the same; the peer is SBX",
        (2_000, 600), (1_400, 100), 1.2,
    ),
    "ppo-atari": Case(
        "PPO Pong", "8 envs x 128 steps, 4 epochs, minibatches of 256, Nature CNN; ours EnvPool's, theirs ale-py's",
        (8_192, 6_144), (3_072, 1_024), None,
    ),
    "ppo-halfcheetah": Case(
        "PPO HalfCheetah-v5", "8 envs x 256 steps, 10 epochs, minibatches of 64, nets 64-64",
        (81_920, 40_960), (8_192, 4_096), 3,
    ),
    "cold-start": Case(
        "Cold start, CartPole-v1", "whole process: import, compile with an empty cache, PPO 100k steps at our preset's "
        "settings, 20 episodes of evaluation",
        (100_000, 100_000), (5_000, 5_000), 3, cold=True,
    ),
}  # fmt: skip


class Failed(Exception):
    """A measurement's process failed."""


def run(python: str, script: Path, args: list[Any], cache: Path, timeout: float = 1200) -> dict[str, float]:
    """Run one measurement in a process of its own; what it printed, and the seconds that the process took: "wall"."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(cache)}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as cwd:  # MuJoCo and others leave logs
        start, peak = time.perf_counter(), 0
        command = [python, str(script), *map(str, args)]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=env, cwd=cwd, start_new_session=True, **pipes)
        while True:
            try:
                out, err = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, resident(process.pid))
                if time.perf_counter() - start > timeout:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise Failed(f"no result after {timeout:.0f} s") from None
        wall = time.perf_counter() - start
    if process.returncode:
        raise Failed(f"exit code {process.returncode}\n{err[-2000:]}")
    try:
        return {**json.loads(out.strip().splitlines()[-1]), "wall": wall, "memory": peak / 2**20}
    except (IndexError, ValueError):
        raise Failed(f"printed no JSON: {out[-500:]!r}") from None


def resident(session: int) -> int:
    """Bytes that the processes of a session hold in memory, what they share counted once; 0 where nobody tells."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                lines = (path / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, ValueError, StopIteration):  # it has just ended
            continue
    return total


def measure(name: str, steps: list[int], repeats: int, peers: str, caches: Path, say: Any) -> dict[str, Any]:
    """All measurements of one case: ours, theirs, ours, theirs ..."""
    case, empty = CASES[name], 0

    def ours(cache: Path) -> dict[str, float]:
        return run(sys.executable, OURS, [name, "--steps", steps[0]], cache)

    def theirs(threads: int, n: int) -> dict[str, float]:
        return run(peers, THEIRS, [name, "--steps", n, "--threads", threads], caches / "peers")

    def score(result: dict[str, float]) -> float:
        return result["wall"] if case.cold else result["steps"] / result["seconds"]

    trials = {threads: score(theirs(threads, max(1, steps[1] // 3))) for threads in (0, 1)}
    threads = min(trials, key=trials.get) if case.cold else max(trials, key=trials.get)  # type: ignore[arg-type]
    say(f"SB3 with torch's default threads {trials[0]:,.1f}, with one {trials[1]:,.1f}")
    names = ("ours", "warm", "theirs") if case.cold else ("ours", "theirs")
    sides: dict[str, list[dict[str, float]]] = {side: [] for side in names}
    for i in range(repeats):
        cache = caches / (f"{name}-{i}" if case.cold else "shared")
        sides["ours"].append(ours(cache))
        if case.cold:
            empty += not any(path.is_file() for path in cache.rglob("*"))  # the run above should have filled it
            sides["warm"].append(ours(cache))
        sides["theirs"].append(theirs(threads, steps[1]))
        say(f"{i + 1}/{repeats} " + ", ".join(f"{side} {score(results[-1]):,.1f}" for side, results in sides.items()))
    if empty:
        raise Failed("nothing was written to the compilation cache: the warm timings would not be warm")
    return {
        "title": case.title,
        "work": case.work,
        "unit": "s" if case.cold else "steps/s",
        "aim": case.aim,
        "steps": {"ours": steps[0], "theirs": steps[1]},
        "threads": {"used": threads or "default", "default": round(trials[0], 2), "1": round(trials[1], 2)},
        **{side: [round(score(result), 2) for result in results] for side, results in sides.items()},
        "memory": {side: round(max(result["memory"] for result in results)) for side, results in sides.items()},
        **({"returns": {s: [r["return"] for r in results] for s, results in sides.items()}} if case.cold else {}),
    }


def ratio(record: dict[str, Any], side: str = "ours") -> float:
    """How many times as fast as theirs, from medians."""
    ours, theirs = median(record[side]), median(record["theirs"])
    return theirs / ours if record["unit"] == "s" else ours / theirs


def rows(cases: dict[str, Any]) -> list[list[str]]:
    """The table's cells."""

    def spread(values: list[float], unit: str) -> str:
        digits = ",.1f" if unit == "s" else ",.0f"
        low, middle, high = (format(x, digits) for x in (min(values), median(values), max(values)))
        return f"{middle} {unit}" + (f" ({low} to {high})" if len(values) > 1 else "")

    cells = []
    for record in cases.values():
        if "failed" in record:
            cells.append([record["title"], record["failed"], "", "", "", "", ""])
            continue
        for side in ("ours", "warm"):
            if side not in record:
                continue
            times, aim = ratio(record, side), record["aim"] if side == "ours" else None
            title = record["title"] + (", warm cache" if side == "warm" else "")
            verdict = ["-", "-"] if aim is None else [f">= {aim:g} x", "yes" if times >= aim else "NO"]
            pair = [spread(record[s], record["unit"]) for s in (side, "theirs")]
            memory = f"{record['memory'][side]:,} and {record['memory']['theirs']:,} MiB"
            cells.append([title, *pair, f"{times:.1f} x", *verdict, memory])
    return cells


HEADERS = ["case", "Thorndike", "Stable-Baselines3", "times as fast", "aim", "holds", "peak memory"]


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    machine, cases = report["machine"], report["cases"]
    lines = ["# Speed beside Stable-Baselines3", "", f"`{report['command']}`", ""]
    lines += [f"Commit {report['commit']}, {report['date']}, {report['minutes']} minutes.", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()] + [""]
    lines += ["| " + " | ".join(HEADERS) + " |", "|" + " --- |" * len(HEADERS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(cases)]
    lines += ["", "Medians of the measurements, by turns (smallest to largest).", ""]
    for record in cases.values():
        if "failed" not in record:
            threads, unit = record["threads"], record["unit"]
            lines.append(
                f"- {record['title']}: {record['work']}. {len(record['ours'])} measurements of each. Steps: "
                f"{record['steps']['ours']:,} and {record['steps']['theirs']:,}. Torch's threads: {threads['used']} "
                f"(trials: default {threads['default']:,} {unit}, one {threads['1']:,} {unit})."
            )
            if "returns" in record:
                scores = {side: f"{median(values):.0f}" for side, values in record["returns"].items()}
                lines.append(f"  Median evaluation: {scores['ours']} and {scores['theirs']}.")
    return "\n".join(lines) + "\n"


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def versions(python: str, packages: tuple[str, ...]) -> str:
    """Of the interpreter and of `packages`, in words."""
    code = (
        "import sys, platform; from importlib.metadata import version as v;"
        "print(', '.join([f'Python {platform.python_version()}', *(f'{p} {v(p)}' for p in sys.argv[1:])]))"
    )
    try:
        done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"cannot run {python}: {error.strerror}") from None
    if done.returncode:
        raise SystemExit(f"{python} lacks what the benchmark needs:\n{done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def machine(peers: str | None) -> dict[str, str]:
    """What this runs on; nothing that names the machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    elif sys.platform == "darwin":
        cpu = output("sysctl", "-n", "machdep.cpu.brand_string")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = f"{platform.system()} {platform.release()}"
    return {
        "CPU": f"{cpu}, {cores} of {os.cpu_count()} cores used",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": system,
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Thorndike": versions(sys.executable, PACKAGES["thorndike"]),
        **({"peers": versions(peers, PACKAGES["peers"])} if peers else {}),
    }


def commit() -> str:
    """The checkout's commit, and whether it has changes beside results."""

    git, paths = ("git", "-C", str(HERE)), (":/src", ":/benchmarks", ":(top,exclude)benchmarks/results")
    changed = output(*git, "status", "--porcelain", "--", *paths)
    return (output(*git, "rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def command(argv: list[str]) -> str:
    """The command line without paths of this machine."""
    plain = [Path(arg).name if os.path.isabs(arg) else arg for arg in argv]
    return shlex.join(["python", "benchmarks/speed.py", *plain])


def parse(argv: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="a Python that has requirements-sb3.txt")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=None, help="measurements of each side (with --quick 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps of every case")
    parser.add_argument("--steps", type=int, nargs=2, metavar=("OURS", "THEIRS"), help="for the one case in --only")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that all runs: no true numbers")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results; partial runs: nowhere)")
    args = parser.parse_args(argv)
    if args.steps and len(args.only or ()) != 1:
        parser.error("--steps is for one case: give it with --only CASE")
    args.repeats = args.repeats or (1 if args.quick else None)
    if args.out is None and not (args.only or args.quick):
        args.out = HERE / "results"
    return args


def main(argv: list[str]) -> int:
    """Measure, print, write; 1 if a case could not be measured."""
    args, start = parse(argv), time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 140)
    peers = os.path.abspath(args.peers)  # not resolved: a link is what makes a virtual environment
    report: dict[str, Any] = {
        "command": command(argv), "commit": commit(), "date": time.strftime("%Y-%m-%d"), "minutes": 0.0,
        "machine": machine(peers), "cases": {},
    }  # fmt: skip
    if os.getloadavg()[0] > 0.5:
        console.print(f"[yellow]the machine is busy (load {os.getloadavg()[0]:.1f}): timings will suffer")
    with tempfile.TemporaryDirectory() as caches:
        for name in args.only or CASES:
            case = CASES[name]
            planned = case.quick if args.quick else case.steps
            steps = args.steps or [max(1, round(n * args.scale)) for n in planned]
            say = lambda text, name=name: console.print(f"{name}: {text}", style="dim", highlight=False)  # noqa: E731
            try:
                report["cases"][name] = measure(name, steps, args.repeats or case.repeats, peers, Path(caches), say)
            except Failed as error:
                console.print(f"[red]{name} failed[/]: ", end="")
                console.print(str(error), markup=False)
                report["cases"][name] = {"title": case.title, "failed": "failed"}
            report["minutes"] = round((time.perf_counter() - start) / 60, 1)
            if args.out:
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / "speed.json").write_text(json.dumps(report, indent=2) + "\n")
                (args.out / "speed.md").write_text(markdown(report))
    table = Table(*HEADERS, title="Speed beside Stable-Baselines3")
    for row in rows(report["cases"]):
        table.add_row(*row)
    for key, value in report["machine"].items():
        console.print(f"{key}: {value}", highlight=False)
    console.print(table)
    console.print(f"commit {report['commit']}, {report['date']}, {report['minutes']} minutes", highlight=False)
    return any("failed" in record for record in report["cases"].values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
