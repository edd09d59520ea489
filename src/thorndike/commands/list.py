"""`thorndike list`: algorithms and environments."""

from __future__ import annotations

from json import dumps
from typing import Literal

from thorndike.algorithms import entries
from thorndike.commands.opening import parse


def list_(what: Literal["all", "algorithms", "environments"] = "all", /, json: bool = False) -> None:
    """List algorithms, and environments that are built in or that Gymnasium has here.

    Args:
        what: algorithms or environments; both by default
        json: print JSON
    """
    import gymnasium

    from thorndike.envs import ADAPTERS, BUILT_IN

    algorithms = {name: entry.summary for name, entry in entries().items()}
    registered = sorted(name for name in gymnasium.registry if not name.startswith(("phys2d/", "tabular/", "GymV")))
    if json:
        found = {"algorithms": algorithms, "environments": {"built in": list(BUILT_IN), "gymnasium": registered}}
        print(dumps(found if what == "all" else found[what]))
        return
    if what != "environments":
        print("algorithms")
        for name, line in algorithms.items():
            print(f"  {name:16} {line}")
    if what != "algorithms":
        print("environments, built in (JAX)\n  " + "\n  ".join(BUILT_IN))
        print("environments, Gymnasium's (prefix gymnasium/ to force it)")
        print("  " + "\n  ".join(name for name in registered if name not in BUILT_IN))
        print("environments of other libraries, by their prefix\n  " + "\n  ".join(f"{name}/" for name in ADAPTERS))


def main(words: list[str]) -> None:
    """The command."""
    parse(list_, words, "list")
