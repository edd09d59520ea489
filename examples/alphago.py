"""AlphaGo's pipeline on a small board, and what each stage is worth against the one before.

python examples/alphago.py [tic_tac_toe | connect_four]
"""

import dataclasses
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import equinox as eqx

import thorndike as td
from thorndike.drivers.match import Random, match

GAMES = {"tic_tac_toe": (1_000, "uct:50", 1_500), "connect_four": (5_000, "uct:200", 5_000)}  # and steps of cloning
START = ("policy",)


class Drawn(eqx.Module):
    """Moves drawn from a policy."""

    policy: Any

    def act(self, now, key):
        """Moves [B]."""
        return self.policy(now.obs, now.info["mask"]).sample(key)


def trained(name: str, folder: Path, seed: int = 0) -> tuple[Any, Any]:
    """What is left of the cloning, and of the stages after it, as players."""
    (games, player, batches), settings = GAMES[name], td.preset("alphago", f"pgx/{name}")
    data = td.record_games(f"pgx/{name}", player, games, folder / "games", seed)
    how = {"dataset": data, "seed": seed, "out": folder / "cloned"}
    cloned = td.train(td.BC(torso=settings.torso, batch_size=256), f"pgx/{name}", batches, **how)
    run = td.train("alphago", f"pgx/{name}", start=cloned, parts=START, seed=seed, out=folder / "alphago")
    return cloned.player(), run.player()


def scores(name: str, clone: Any, full: Any, games: int = 1_000) -> dict[str, float]:
    """Points of each game of every stage against the one before.

    Policies draw their moves. Searches and best moves would repeat their games, so two random moves begin those.
    """
    game = td.make(f"pgx/{name}")
    changed = lambda **how: dataclasses.replace(full, algorithm=dataclasses.replace(full.algorithm, **how))  # noqa: E731
    sigma, rho, network = Drawn(clone.actor.policy), Drawn(full.actor.policy), changed(mixing=0.0)
    pairs = {
        "the clone, against random moves": (sigma, Random(game.action_space), 0),
        "policy gradient, against the clone": (rho, sigma, 0),
        "search with the value network, against the policy's best moves": (network, changed(simulations=0), 2),
        "search with network and playouts, against that with the network": (full, network, 2),
    }
    return {stage: match(game, *two, games, opening=opening).score for stage, (*two, opening) in pairs.items()}


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "tic_tac_toe"
    for stage, score in scores(name, *trained(name, Path(mkdtemp()))).items():
        print(f"{stage:66}{score:6.3f}")
