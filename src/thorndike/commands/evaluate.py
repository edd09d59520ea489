"""`thorndike evaluate`: play whole episodes, or matches, and summarise them."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

from thorndike.commands.opening import Step, open_run, parse
from thorndike.errors import ConfigError
from thorndike.text import score

FAR = 0.25  # of the larger return: how far greedy episodes may stay below those of training without a remark


def evaluate(
    run: Path,
    /,
    episodes: int = 20,
    seed: int = 0,
    explore: bool = False,
    json: bool = False,
    opponent: str | None = None,
    elo: bool = False,
    step: Step = None,
    env: str | None = None,
    classes: tuple[str, ...] = (),
) -> None:
    """Play whole episodes with the trained agents, greedily, and summarise the returns.

    Args:
        run: the run's directory
        episodes: how many for each agent
        seed: of the environments
        explore: act as in training, at random as the policy says, where otherwise the best action is taken
        json: print JSON
        opponent: in a game of two players, whom to play: random, uct:200 (a search of 200 playouts for each move),
            perfect (tic-tac-toe) or another run
        elo: in a game of two players, let all kept checkpoints play each other and rate them
        step: of which checkpoint, a number of steps or best; by default the newest
        env: the environment, where it is one of your own (./my_env.py:MyEnv)
        classes: files of your own that the run was trained with (./my_algorithm.py)
    """
    if elo and opponent is not None:
        raise ConfigError("--elo rates the checkpoints among each other: leave out --opponent, or --elo")
    if elo:
        ratings = open_run(run, env, classes).elo(episodes, run / "elo.png", seed)
        lines = [f"{step:12,} steps  {rating:8.1f}" for step, rating in ratings.items()]
        print(dumps(ratings) if json else "\n".join([*lines, str(run / "elo.png")]))
        return
    if opponent is not None:
        if step is not None:
            raise ConfigError("--opponent plays against the newest checkpoint: leave out --step")
        result = open_run(run, env, classes).match(opponent, episodes, seed)
        sides = {"first": result.first.tolist(), "second": result.second.tolist(), "score": result.score}
        print(dumps(sides) if json else result)
        return
    opened = open_run(run, env, classes)
    result = opened.evaluate(episodes, seed, explore, step)
    print(dumps(result.to_json()) if json else result)
    if not (json or explore or step):
        print(end=remark(opened, result))


def remark(run: Any, result: Any) -> str:
    """A line where greedy episodes earn far less than those of training did: then the best policy may be a random one.

    Nothing is said of games, of recorded steps, and of environments that are evaluated as others.
    """
    known = [x for x in run.status["return_mean"] if x is not None]
    other = run.spec.players > 1 or run.info.get("dataset") or hasattr(run.env, "evaluation")
    if other or not known:
        return ""
    trained, greedy = sum(known) / len(known), result.mean
    error = float(result.returns.std()) / result.returns.size**0.5
    if trained - greedy <= max(3 * error, FAR * max(abs(trained), abs(greedy))):
        return ""
    return (
        f"training episodes earned {score(trained)}, and the best action alone earns {score(greedy)}: with --explore "
        "the agents act as in training\n"
    )


def main(words: list[str]) -> None:
    """The command."""
    parse(evaluate, words)
