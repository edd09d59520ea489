"""`thorndike evaluate`: play whole episodes, or matches, and summarise them."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from thorndike.commands.opening import Step, open_run, parse
from thorndike.errors import ConfigError


def evaluate(
    run: Path,
    /,
    episodes: int = 20,
    seed: int = 0,
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
    result = open_run(run, env, classes).evaluate(episodes, seed, step=step)
    print(dumps(result.to_json()) if json else result)


def main(words: list[str]) -> None:
    """The command."""
    parse(evaluate, words)
