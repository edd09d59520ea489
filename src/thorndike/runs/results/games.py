"""What one does with games of two players: opponents by name, recorded games, ratings of a run's checkpoints, and play
in the terminal."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from thorndike.drivers.match import Perfect, Random, elo, match
from thorndike.drivers.searching import Searching
from thorndike.envs import make
from thorndike.envs.batched import Batched
from thorndike.errors import CheckpointError, ConfigError
from thorndike.memory.dataset import Dataset, new
from thorndike.ops.keys import random_key
from thorndike.runs.results.agent import Agent
from thorndike.runs.results.record import record
from thorndike.runs.storage import checkpoint
from thorndike.runs.storage.environments import describe
from thorndike.types import Array, Timestep

DRAWN = ("tic_tac_toe", "connect_four", "othello", "go_9x9", "go_19x19")  # boards of two kinds of stones
TOGETHER = 64  # games that are recorded side by side
MARKS = ("X", "O")  # of who begins, and the other


def opponent_of(run: Any, opponent: Any) -> Any:
    """The player that `Run.match` calls `opponent`: a name, or a run of the same game."""
    game = run.info["environment"]["id"]
    if run.spec.players < 2:
        raise ConfigError(f"{game} is no game of two players: there is nobody to play against")
    if hasattr(opponent, "player"):
        if opponent.env != run.env:
            raise ConfigError(f"{opponent.path} is a run of another game: {opponent.info['environment']['id']}")
        return opponent.player()
    return player_of(run.env, game, opponent)


def player_of(env: Any, game: str, name: Any) -> Any:
    """The player of the game `env`, whose id is `game`, that goes by a name; raises `ConfigError` for any other."""
    if name == "random":
        return Random(env.action_space)
    if name == "perfect" and getattr(env, "name", None) == "tic_tac_toe":
        return Perfect()
    if isinstance(name, str) and name.startswith("uct:"):
        return Searching(env, simulations_of(name, env))
    known = "random, uct:200 (a search of 200 playouts), perfect (in pgx/tic_tac_toe) or a run of the same game"
    raise ConfigError(f"no opponent {str(name)!r} for {game}: it can be {known}")


class Both(NamedTuple):
    """A player of matches that plays both sides, as an agent's algorithm."""

    player: Any

    def carry(self, actor: Any, n: int) -> tuple[()]:
        """Players remember nothing."""
        return ()

    def act(self, actor: Any, carry: Any, now: Timestep, key: Array, explore: bool):
        """The player's moves."""
        return self.player.act(now, key), carry, {}


def record_games(game: Any, player: str, games: int, out: str | Path, seed: int = 0) -> Dataset:
    """Record games that a player plays against itself: a dataset for `td.BC`. Rewards are the mover's.

    Args:
        game: an id, "pgx/tic_tac_toe", or a JAX environment of two players.
        player: "uct:50", a search of 50 random playouts for each move; "random"; "perfect" (tic-tac-toe).
        games: how many.
        out: the dataset's directory, a new one.
        seed: of the player's random choices.

    Raises:
        ConfigError: this is no game of two players, or there is no such player.
    """
    env, path = make(game), new(out)
    spec = describe(env, 0, game if isinstance(game, str) else "")
    if spec.players != 2:
        raise ConfigError(f"{game} is no game of two players: td.open_run(...).record() records an agent's episodes")
    agent = Agent(Both(player_of(env, str(game), player)), spec, ())
    about = {"environment": spec.id, "player": player, "seed": seed}
    return Dataset.write(path, record(agent, env, games, seed, together=TOGETHER), about)


def simulations_of(opponent: str, game: Any) -> int:
    """The N of "uct:N"; raises `ConfigError` for what is no number, and for games that cannot be searched."""
    n = opponent.removeprefix("uct:")
    if not n.isdigit() or int(n) < 1:
        raise ConfigError(f"no opponent {opponent!r}: uct is followed by playouts for each move, uct:200")
    if not getattr(game, "perfect", True):
        raise ConfigError(f"{opponent} searches games without chance or hidden cards")
    return int(n)


def ratings(run: Any, games: int, out: str | Path | None, seed: int) -> dict[int, float]:
    """Elo ratings of a run's checkpoints; see `Run.elo`."""
    kept, players = [], [opponent_of(run, "random")]
    for step in checkpoint.steps(run.path / "checkpoints"):
        try:
            players.append(run.player(0, step))
            kept.append(step)
        except CheckpointError as error:
            warnings.warn(f"skipped a checkpoint: {error}", stacklevel=3)
    if not kept:
        raise ConfigError(f"{run.path} has no whole checkpoint yet: nobody to rate")
    scores = np.full((len(players), len(players)), 0.5)
    for k, (i, j) in enumerate(itertools.combinations(range(len(players)), 2)):
        scores[i, j] = match(run.env, players[i], players[j], games, seed + k, opening=2).score
        scores[j, i] = 1 - scores[i, j]
    found = dict(zip(kept, elo(scores, games)[1:].tolist()))
    if out is not None:
        from thorndike.figures import curve, save

        save(curve(list(found), list(found.values()), "Elo rating; a random player has 0"), out)
    return found


def playable(env: Any) -> bool:
    """Whether `play` can draw the game."""
    return getattr(env, "name", None) in DRAWN


def play(run: Any, begin: bool, seed: int = 0, ask: Callable[[str], str] = input, say: Any = print) -> int | None:
    """A game against the trained agent, in the terminal.

    Args:
        run: of a game with a board of two kinds of stones.
        begin: whether the person begins.
        seed: of what is random in the game.
        ask: asks for a line of text.
        say: shows one.

    Returns:
        1 if the person won, 0 for a draw, -1 if the agent won; None if the person left.

    Raises:
        ConfigError: this is no such game.
    """
    if not playable(run.env):
        raise ConfigError(f"only games that can be drawn as stones are played here: {', '.join(DRAWN)}")
    world, agent, key = Batched(run.env, 1), run.player(), random_key(seed)
    step, act = jax.jit(world.step), jax.jit(lambda agent, now, key: agent.act(now, key))
    now, persons, moves = world.reset(key), begin, 0
    while True:
        key, akey, skey = jax.random.split(key, 3)
        say(board(now.obs[0], MARKS[moves % 2]))
        if persons:
            action = ask_move(now, MARKS[moves % 2], ask, say)
            if action is None:
                return None
        else:
            action = int(act(agent, now, akey)[0])
            say(f"{MARKS[moves % 2]} (agent) plays {spell(now, action)}")
        later = step(now, np.array([action]), skey)
        if bool(later.terminated[0]) or bool(later.truncated[0]):
            say(board(later.final_obs[0], MARKS[(moves + 1) % 2]))
            result = int(np.sign(later.reward[0])) * (1 if persons else -1)
            say({1: "you have won", 0: "a draw", -1: "the agent has won"}[result])
            return result
        now, persons, moves = later, not persons, moves + 1


def board(obs: Any, mover: str) -> str:
    """An observation [H, W, planes], whose first two planes are the mover's stones and the other's, as text."""
    stones, other = np.asarray(obs).astype(bool), MARKS[1 - MARKS.index(mover)]
    height, width = stones.shape[:2]
    rows = [
        f"{height - i:2} " + " ".join(mover if a else other if b else "." for a, b, *_ in row)
        for i, row in enumerate(stones)
    ]
    return "\n".join([*rows, "   " + " ".join(chr(ord("a") + i) for i in range(width)), ""])


def names(now: Timestep) -> dict[str, int]:
    """What the moves are called: a column, or a column and a row (a1 is at the lower left); "pass"."""
    height, width = now.obs.shape[1:3]
    columns = [chr(ord("a") + i) for i in range(width)]
    if now.info["mask"].shape[1] == width:
        return {column: i for i, column in enumerate(columns)}
    cells = {f"{columns[i % width]}{height - i // width}": i for i in range(height * width)}
    return cells if now.info["mask"].shape[1] == height * width else {**cells, "pass": height * width}


def spell(now: Timestep, action: int) -> str:
    """What a move is called."""
    return next(name for name, move in names(now).items() if move == action)


def ask_move(now: Timestep, mark: str, ask: Callable[[str], str], say: Any) -> int | None:
    """A legal move of the person; None if they leave."""
    legal = {name: move for name, move in names(now).items() if now.info["mask"][0, move]}
    while True:
        try:
            answer = ask(f"{mark} (you), your move, or quit: ").strip().lower()
        except EOFError:
            return None
        if answer in ("q", "quit", "exit"):
            return None
        if answer in legal:
            return legal[answer]
        say(f"{answer!r} is not a legal move; legal are {' '.join(legal)}")
