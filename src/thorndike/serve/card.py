"""The card of an agent: what it is, how it was trained, how good it is and how to load it, as a model hub shows it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from thorndike.exports import VERSION
from thorndike.ops.summary import FEW
from thorndike.runs.storage.journal import Journal
from thorndike.settings import flat, spell
from thorndike.text import duration, score


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card says. Of what could not be made there is the reason, in the place of what was made."""

    journal: Journal
    seed: int  # of the agent, one of the run's
    masked: bool  # whether it chooses among legal actions, which it has to be told
    game: bool  # whether two play it
    steps: int  # of training, at the checkpoint that was taken
    scores: dict[str, Any] | str  # what `thorndike evaluate --json` prints, or why nobody was evaluated
    own: dict[str, Any] | None  # the same of this agent alone, where several were trained
    loads: str  # "", or why the agent does not act where it is loaded
    classes: tuple[str, ...]  # the user's own classes that loading needs, "module:Name"
    onnx: Any  # an `Export`, or why there is none
    film: str  # the name of a film or picture, "" for none
    curve: str  # the name of the picture of the learning curve, "" for none
    licence: str  # by which others may use it, "" where that was not said

    def __str__(self) -> str:
        """The README.md of the folder."""
        title = f"{self.journal.name} on {self.journal.environment['id']}"
        parts = [self._front(title), f"# {_plain(title)}", self._what(), *self._load(), "## Scores", *self._scores()]
        if self.curve:
            parts.append(f"![learning curve]({self.curve})")
        parts += ["## Training", *self._training(), "## Licence", self._licence()]
        return "\n\n".join(parts) + "\n"

    def _front(self, title: str) -> str:
        """What a hub reads: YAML, of which JSON is a part."""
        tags = ["reinforcement-learning", self.journal.name, self.journal.environment["id"], "thorndike"]
        lines = [
            "---",
            f"license: {json.dumps(self.licence or 'unknown')}",
            "library_name: thorndike",
            "pipeline_tag: reinforcement-learning",
            f"tags: {json.dumps(tags)}",
        ]
        shown = self.own or self.scores
        if isinstance(shown, dict) and "mean" in shown:
            result = {
                "task": {"type": "reinforcement-learning", "name": "reinforcement learning"},
                "dataset": {"type": tags[2], "name": tags[2]},
                "metrics": [{"type": "mean_reward", "name": "mean return", "value": shown["mean"], "verified": False}],
            }
            lines.append(f"model-index: {json.dumps([{'name': title, 'results': [result]}])}")
        return "\n".join([*lines, "---"])

    def _what(self) -> str:
        name, env = _plain(self.journal.name), self.journal.environment
        told = env.get("kwargs") or {}
        film = f"\n\n![the agent at work]({self.film})" if self.film else ""
        args = f" with {_plain(spell(told))}" if told else ""
        unit = "batches of recorded episodes" if self.journal.info.get("dataset") else "environment steps"
        return (
            f"An agent trained by {name} on `{_code(env['id'])}`{args}, for {self.steps:,} {unit}, "
            f"with Thorndike {VERSION}, a library of deep reinforcement learning on JAX.{film}"
        )

    def _load(self) -> list[str]:
        mask = ", mask=agent.all_legal()" if self.masked else ""
        own = [place.split(":") for place in self.classes]
        lines = [
            "import thorndike as td",
            *(f"from {module} import {name}" for module, name in own),
            f'agent = td.load("agent.td"{", classes=[" + ", ".join(n for _, n in own) + "]" if own else ""})',
            f"action = agent.act(agent.spec.observation.sample(){mask})",
        ]
        said = ["## Loading it", "```python\n" + "\n".join(lines) + "\n```"]
        if own:
            said.append("Its classes are its author's own: their modules are needed, and not in this folder.")
        if self.loads:
            said.append(f"Where it is loaded it does not act by itself: {_plain(self.loads)}.")
        if isinstance(self.onnx, str):
            return [*said, f"There is no ONNX file: {_plain(self.onnx)}."]
        takes = ", ".join(f"`{name}` {[n or 'batch' for n in shape]}" for name, shape in self.onnx.inputs.items())
        gives = ", ".join(f"`{name}`" for name in self.onnx.outputs)
        return [
            *said,
            "`policy.onnx` is its greedy policy for ONNX Runtime, with normalisation, scaling and masks inside. "
            f"It takes {takes} and gives {gives}; it acts as the agent does on {self.onnx.checked:,} observations.",
        ]

    def _scores(self) -> list[str]:
        if isinstance(self.scores, str):
            return [f"It was not evaluated: {_plain(self.scores)}."]
        if "mean" not in self.scores:
            return ["All agents of the run have diverged."]
        each = [x for x in self.scores["per_run"] if x is not None]
        rows = [("this agent", self.own)] if self.own else []
        rows.append((f"all {len(each)} agents" if self.own else "this agent", self.scores))
        lines = ["| | mean return | standard deviation | interquartile mean | 95% interval |", "|---|---|---|---|---|"]
        for name, found in rows:
            if found is not None and "mean" in found:
                low, high = found["ci95"]
                numbers = [found["mean"], found["std"], found["iqm"]]
                lines.append(f"| {name} | {' | '.join(map(score, numbers))} | {score(low)} to {score(high)} |")
        few = f" Fewer than {FEW} seeds say little of the algorithm." if len(each) < FEW else ""
        many = f" Mean returns by agent: {', '.join(map(score, each))}." if self.own else ""
        games = " against a random player, 1 for a win, 0 for a draw and -1 for a loss" if self.game else ""
        return [
            "\n".join(lines),
            f"Over {self.scores['episodes']} episodes of each agent, played greedily{games}; the interval is a "
            f"bootstrap interval of the interquartile mean.{many}{few} All numbers are in `evaluation.json`.",
        ]

    def _training(self) -> list[str]:
        journal, info = self.journal, self.journal.info
        seeds = f"{journal.seed} to {journal.seed + journal.seeds - 1}, of which this is {self.seed}"
        versions = info.get("versions") if isinstance(info.get("versions"), dict) else {}
        rows = [
            ("steps", f"{self.steps:,} of {info['steps']:,}"),
            ("seed", seeds if journal.seeds > 1 else str(self.seed)),
            ("time", duration(journal.status["seconds"])),
            ("settings", f"{journal.base or 'own class'} {spell(journal.changed)}".strip()),
            ("versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))),
        ]
        if info.get("dataset"):
            rows.append(("learned from", "a dataset of recorded episodes"))
        if info.get("start"):
            rows.append(("began from", "the parameters of another agent"))
        settings = [(name, json.dumps(value)) for name, value in flat(journal.settings).items()]
        return [
            "\n".join(["| | |", "|---|---|", *(f"| {name} | {_plain(value)} |" for name, value in rows if value)]),
            "<details><summary>all settings</summary>",
            "\n".join(["| setting | value |", "|---|---|", *(f"| {_plain(n)} | {_plain(v)} |" for n, v in settings)]),
            "</details>",
        ]

    def _licence(self) -> str:
        if self.licence:
            return f"{_plain(self.licence)}. Thorndike itself is under Apache-2.0."
        return (
            "Its author has not said yet under which licence others may use it. Thorndike itself is under Apache-2.0."
        )


def _plain(words: Any) -> str:
    """A text in Markdown: no markup, one line."""
    found = " ".join(str(words).split())
    for sign in "\\`*_[]<>#|!":
        found = found.replace(sign, f"\\{sign}")
    return found.rstrip(".")


def _code(words: Any) -> str:
    """A text between backticks."""
    return " ".join(str(words).replace("`", "'").split())
