"""An agent of a board game that speaks the Go Text Protocol (Farnebäck 2002, version 2), with a time for each move."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from thorndike.drivers.match import Trained
from thorndike.envs.batched import Batched
from thorndike.errors import ConfigError
from thorndike.exports import VERSION
from thorndike.ops.keys import random_key
from thorndike.runs.results.games import board
from thorndike.types import Timestep

COLUMNS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"  # without I
LADDER = tuple(2**k for k in range(2, 12))  # simulations, of which the most that fit into the time are taken
MARGIN = 1.25  # how much longer than the median a search may take


class Refused(Exception):
    """A command that cannot be carried out; its message is the answer."""


class Engine:
    """A trained agent at a board: one GTP command in, one answer out."""

    def __init__(self, run: Any, seconds: float | None = None, seed: int = 0):
        """`seconds`: for each move; None: with the simulations that it was trained with.

        Raises:
            ConfigError: the run's game has no board whose moves are its points, or the time is too short for a search.
        """
        if run.spec.players != 2 or len(run.spec.observation.shape or ()) < 2 or not run.spec.masked:
            raise ConfigError(f"GTP is for board games of two players, and {run.spec.id} is none")
        if run.spec.id.rpartition("/")[2] == "hex":  # it has as many moves as a game with a pass
            raise ConfigError("GTP has no word for the last move of Hex, by which the players swap")
        self.world, self.player, self.id = Batched(run.env, 1), run.player(), run.spec.id
        self._step, self._key = jax.jit(self.world.step), random_key(seed)
        self._act = jax.jit(lambda player, now, key: player.act(now, key))
        self.taken: list[float] = []  # seconds of each move that it made
        self.clear_board()
        height, width = self.now.obs.shape[1:3]
        self.passes = int(self.now.info["mask"].shape[1]) == height * width + 1
        if int(self.now.info["mask"].shape[1]) - self.passes != height * width:
            raise ConfigError(f"GTP names points of a board, and a move in {run.spec.id} is none")
        if seconds is not None:
            self.player = self._within(seconds)
        self._choose()  # compiled now, not at the first move

    def _within(self, seconds: float) -> Trained:
        """The agent with as many simulations as the time allows."""
        if not hasattr(self.player.algorithm, "simulations"):
            raise ConfigError(f"{type(self.player.algorithm).__name__} does not search: leave out the seconds")
        best = None
        for n in LADDER:
            algorithm = dataclasses.replace(self.player.algorithm, simulations=n)
            player, once = Trained(algorithm, self.player.actor), []
            for _ in range(4):
                begun = time.perf_counter()
                jax.block_until_ready(self._act(player, self.now, self._key))
                once.append(time.perf_counter() - begun)
            if MARGIN * float(np.median(once[1:])) > seconds:
                break
            best = player
        if best is None:
            raise ConfigError(f"{seconds} s are too short for a search of {LADDER[0]} simulations on this machine")
        return best

    @property
    def simulations(self) -> int | None:
        """Of each move; None where the agent does not search."""
        return getattr(self.player.algorithm, "simulations", None)

    def _choose(self) -> int:
        self._key, key = jax.random.split(self._key)
        return int(self._act(self.player, self.now, key)[0])

    def answer(self, line: str) -> str | None:
        """The answer to one line, with the empty line behind it; None for what is no command."""
        words = line.partition("#")[0].split()
        if not words:
            return None
        id = words.pop(0) if words[0].isdigit() else ""
        if not words:
            return f"?{id} no command\n\n"
        name, *arguments = words
        method: Callable[..., str | None] | None = COMMANDS.get(name)
        if method is None:
            return f"?{id} unknown command\n\n"
        try:
            inspect.signature(method).bind(self, *arguments)
        except TypeError:  # too few arguments, or too many
            return f"?{id} syntax error\n\n"
        try:
            return f"={id} {method(self, *arguments) or ''}".rstrip(" ") + "\n\n"
        except Refused as refused:
            return f"?{id} {refused}\n\n"

    def clear_board(self) -> None:
        """The beginning of a game."""
        self.now: Timestep = self.world.reset(self._key)
        self.moves: list[int] = []
        self.over = False

    def play(self, color: str, vertex: str) -> None:
        """A move of either player. One that is refused changes nothing, not even by the pass before it."""
        before, action = len(self.moves), self._index(vertex)
        self._turn(color)
        try:
            self._move(action)
        except Refused:
            if len(self.moves) > before:
                self.undo()
            raise

    def genmove(self, color: str) -> str:
        """The agent's move, made."""
        if self.over:
            return "pass"
        self._turn(color)
        begun = time.perf_counter()
        action = self._choose()
        self.taken.append(time.perf_counter() - begun)
        name = self._vertex(action)
        self._move(action)
        return name

    def undo(self) -> None:
        """The position before the last move."""
        if not self.moves:
            raise Refused("cannot undo")
        kept = self.moves[:-1]
        self.clear_board()
        for action in kept:
            self._move(action)

    def latency(self) -> str:
        """Simulations of a search, and how long the moves took."""
        if not self.taken:
            return f"{self.simulations} simulations, no move yet"
        p50, p99 = np.percentile(self.taken, (50, 99))
        return f"{self.simulations} simulations, {len(self.taken)} moves, p50 {p50:.3f} s, p99 {p99:.3f} s"

    def show(self) -> str:
        """The board as text."""
        return "\n" + board(self.now.obs[0], "XO"[len(self.moves) % 2]).rstrip("\n")

    def boardsize(self, size: str) -> None:
        """Only the size that it was trained on."""
        if size != str(self.now.obs.shape[1]):
            raise Refused("unacceptable size")
        self.clear_board()

    def _turn(self, color: str) -> None:
        """Let the other player pass where it would be their move."""
        mine = {"b": 0, "black": 0, "w": 1, "white": 1}.get(color.lower())
        if mine is None:
            raise Refused("syntax error")
        if self.over:
            raise Refused("the game is over")
        if len(self.moves) % 2 != mine:
            if not self.passes:
                raise Refused("it is the other player's move")
            self._move(int(self.now.info["mask"].shape[1]) - 1)

    def _move(self, action: int) -> None:
        if self.over:
            raise Refused("the game is over")
        if not bool(self.now.info["mask"][0, action]):
            raise Refused("illegal move")
        later = self._step(self.now, np.array([action]), self._key)
        self.moves.append(action)
        self.over = bool(later.terminated[0]) or bool(later.truncated[0])
        self.now = later._replace(earned={})

    def _index(self, vertex: str) -> int:
        """The move that a point names: A1 is at the lower left."""
        height, width = self.now.obs.shape[1:3]
        if vertex.lower() == "pass" and self.passes:
            return height * width
        column, row = COLUMNS.find(vertex[:1].upper()), vertex[1:]
        if not (0 <= column < width and row.isdigit() and 1 <= int(row) <= height):
            raise Refused("invalid vertex")
        return (height - int(row)) * width + column

    def _vertex(self, action: int) -> str:
        height, width = self.now.obs.shape[1:3]
        if action == height * width:
            return "pass"
        return f"{COLUMNS[action % width]}{height - action // width}"


COMMANDS: dict[str, Callable[..., str | None]] = {
    "protocol_version": lambda engine: "2",
    "name": lambda engine: "Thorndike",
    "version": lambda engine: VERSION,
    "list_commands": lambda engine: "\n".join(COMMANDS),
    "known_command": lambda engine, name: str(name in COMMANDS).lower(),
    "quit": lambda engine: None,
    "boardsize": Engine.boardsize,
    "clear_board": lambda engine: engine.clear_board(),
    "komi": lambda engine, komi: None,  # programs insist on saying it; the game has its own
    "play": Engine.play,
    "genmove": Engine.genmove,
    "undo": lambda engine: engine.undo(),
    "showboard": lambda engine: engine.show(),
    "thorndike-latency": lambda engine: engine.latency(),
}


def converse(engine: Engine, lines: Iterable[str], say: Callable[[str], Any]) -> None:
    """Answer line by line, until `quit` or the end."""
    for line in lines:
        answer = engine.answer(line)
        if answer is not None:
            say(answer)
        words = line.partition("#")[0].split()
        if "quit" in words[:1] or ("quit" in words[1:2] and words[0].isdigit()):
            return
