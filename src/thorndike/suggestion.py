"""Which algorithm for an environment, and why: a decision tree over what is known of it and what a few steps show.

It may also answer that a table is enough, that this is a bandit, that it is supervised learning, or that nobody needs
to learn anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from thorndike.algorithms import algorithm_class, entries
from thorndike.choosing import serves
from thorndike.configuration import require
from thorndike.envs import full_id, make
from thorndike.envs.recorded import Recorded
from thorndike.presets import has_preset, preset_for
from thorndike.probing import Facts, probe
from thorndike.runs.storage.environments import describe
from thorndike.runs.training.arguments import explained
from thorndike.text import columns, wrapped
from thorndike.types import Spec

TABLE = 200_000  # entries of a table that experience still fills
FEW = 200_000  # steps below which each of them has to be used more than once
MOST = 4  # algorithms that are suggested

KINDS = {  # what kind of problem it is: in a few words
    "nothing": "nothing that is done makes a difference",
    "rule": "a rule will do",
    "bandit": "a bandit",
    "contextual bandit": "a contextual bandit, close to supervised learning",
    "game": "a game of two players",
    "recorded": "recorded episodes, and nothing to try out",
    "plan": "a table is enough, and its model is known: plan",
    "table": "a table is enough",
    "goals": "goals that can be changed in hindsight",
    "memory": "what matters has to be remembered",
    "pixels": "actions from pictures",
    "values": "few actions: values of each, or a policy",
    "control": "continuous control",
    "policy": "actions of several parts: a policy",
}


@dataclasses.dataclass(frozen=True)
class Idea:
    """An algorithm, why it, and what to change of its settings."""

    name: str
    why: str
    options: str = ""  # of `thorndike train`
    preset: bool = False  # settings for this environment are known


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What `suggest` answers. It prints itself."""

    env: str
    kind: str  # of `KINDS`
    because: str  # what it was seen by
    first: tuple[Idea, ...]  # the best first; none where nothing has to be learned
    remarks: tuple[str, ...]  # what else to think of
    others: tuple[str, ...]  # what else can learn it
    facts: Facts | None  # None of recorded episodes

    def __str__(self) -> str:
        lines = [f"{self.env}: {KINDS[self.kind]}", *wrapped([self.because]).splitlines()]
        if self.first:
            rows = [(f"{x.name} {x.options}".strip(), x.why + "; settings are known" * x.preset) for x in self.first]
            lines += ["", "try, in this order", columns(rows)]
        if self.remarks:
            lines += ["", "think of", wrapped(list(self.remarks))]
        if self.others:
            lines += ["", "can learn it, too", wrapped([", ".join(self.others)])]
        if self.first:
            data = " --dataset DIR" * (self.kind == "recorded")
            lines += ["", f"thorndike train {self.first[0].name} {self.env} {self.first[0].options}".rstrip() + data]
        return "\n".join(lines)


@explained
def suggest(
    env: Any,
    steps: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    memory: bool = False,
    dataset: bool = False,
) -> Suggestion:
    """Which algorithm to try on an environment, and why.

    A few hundred random steps are played to see whether actions change what comes next, what is paid, and whether
    random play meets a reward at all.

    Args:
        env: what `td.train` takes: an id, a JAX environment, a `gymnasium.Env` class, instance or factory; with
            `dataset` also the pair of its spaces.
        steps: how many environment steps can be afforded; by default many in JAX, and few on the host.
        env_kwargs: for the environment's constructor, where env is an id.
        memory: whether what was seen before has to be remembered. It is assumed where settings that are known for the
            environment have a memory; what is hidden cannot be seen from outside.
        dataset: whether there are recorded episodes, and nothing can be tried out.

    Returns:
        The kind of problem, the algorithms to try first, and what to think of; it prints itself.

    Raises:
        ConfigError: there are spaces and nothing to play in, and `dataset` was not said.
        EnvError: the environment fails.
    """
    id = full_id(env) if isinstance(env, str) else ""
    world = make(env, **(env_kwargs or {}))
    spec = describe(world, steps or 1, id)
    if dataset:
        return _answer(spec, id or _name(world), None, "recorded", "you have recorded episodes", _recorded(spec), ())
    require(not isinstance(world, Recorded), "there is nothing to play in a pair of spaces: say dataset=True")
    facts = probe(world, spec)
    plenty = facts.compiled if steps is None else steps > FEW
    kind, because = _kind(facts, memory or _remembered(id) or _serves("rl2", spec))
    ideas = list(_ideas(kind, facts, plenty))
    return _answer(spec, id or _name(world), facts, kind, because, ideas, tuple(_remarks(kind, facts, plenty)))


def _answer(
    spec: Spec, env: str, facts: Facts | None, kind: str, because: str, ideas: list[Idea], remarks: tuple[str, ...]
) -> Suggestion:
    """Of the ideas those that can serve, known settings first, and what else can."""
    able = [_known(idea, spec.id) for idea in ideas if _serves(idea.name, spec)]
    exact = kind in ("plan", "recorded")  # where settings matter less than what is learned from
    first = tuple(able if exact else sorted(able, key=lambda idea: not idea.preset))[:MOST]
    listed = [] if kind in ("nothing", "rule") else _others(spec, facts)
    return Suggestion(
        env, kind, because, first, remarks, tuple(x for x in listed if x not in {i.name for i in first}), facts
    )


def _known(idea: Idea, id: str) -> Idea:
    """The idea, and whether settings for it are known: those of a preset, with what it would change of them."""
    cls = algorithm_class(idea.name)
    field = idea.options.partition(" ")[0].removeprefix("--").replace("-", "_")
    if not has_preset(cls, id) or (field and field not in preset_for(cls, id)[0]):
        return idea
    return dataclasses.replace(idea, options="", preset=True)


def _others(spec: Spec, facts: Facts | None) -> list[str]:
    """Every algorithm that can serve, in the order of the list."""
    can = {name for name in entries() if _serves(name, spec)}
    return [
        name
        for name in entries()
        if name in can and getattr(algorithm_class(name), "offline", False) <= (facts is None)
    ]


def _kind(facts: Facts, memory: bool) -> tuple[str, str]:
    """The tree: the first question that is answered with yes decides."""
    if facts.players > 1:
        return "game", "two players move by turns"
    if not facts.leads and not facts.pays:
        return "nothing", "with other actions the same happened, and the same was paid, in all steps that were played"
    if facts.one_step and facts.states == 1:
        return "bandit", "every episode is one step, and there is one observation: only the action matters"
    if facts.constant is not None:
        return (
            "rule",
            f"action {facts.constant} paid most in every step that was played, and actions change nothing else",
        )
    if memory:
        return "memory", "the observation alone does not say what to do"
    if facts.one_step or not facts.leads:
        how = "every episode is one step" if facts.one_step else "actions change what is paid, but not what comes next"
        return "contextual bandit", f"{how}: there is no future to plan for, and the observation says what pays"
    if facts.goals:
        return "goals", "its observations have goals, and it says what would have been paid for another one"
    pairs = None if facts.states is None or facts.actions is None else facts.states * facts.actions
    if facts.model and pairs is not None and pairs <= TABLE:
        return "plan", f"{facts.states:,} states, {facts.actions:,} actions, and transitions() has their probabilities"
    if pairs is not None and pairs <= TABLE:
        return "table", f"{facts.states:,} observations and {facts.actions:,} actions can be counted"
    if facts.action == "discrete":
        return ("pixels", "it shows images") if facts.image else ("values", "its actions are a short list")
    return ("control", "its actions are numbers") if facts.action == "box" else ("policy", "its actions have parts")


def _ideas(kind: str, facts: Facts, plenty: bool) -> Iterator[Idea]:
    """Algorithms for a kind of problem, the best first."""
    if kind == "game":
        yield Idea("alphazero", "it searches with the rules, and learns from the search")
    if kind in ("bandit", "contextual bandit"):
        if facts.states is not None and facts.actions is not None and facts.states * facts.actions <= TABLE:
            yield Idea("q-learning", "a table of mean rewards; no discount", "--discount 0")
        yield Idea("dqn", "a network that says what each action pays; no discount", "--discount 0")
        yield Idea("reinforce", "the policy gradient of single steps, for any actions")
    if kind == "plan":
        yield Idea("value-iteration", "exact, and needs no experience")
        yield Idea("policy-iteration", "exact too, in fewer and dearer rounds")
        yield Idea("q-learning", "where learning from experience is the point")
    if kind == "table":
        if facts.silent:
            yield Idea(
                "q-learning", "a bonus for what was seldom tried finds rewards that are rare", "--count-bonus 0.5"
            )
        if facts.repeats:
            yield Idea("dyna-q", "nothing is left to chance, so a replayed model saves most of the steps")
        yield Idea("q-learning", "the simplest thing that finds the best policy")
        yield Idea("expected-sarsa", "less noisy, and careful while it explores")
    if kind == "goals":
        why = "failures become successes at what they achieved"
        yield Idea("dqn" if facts.action == "discrete" else "sac", why, "--replay hindsight")
    if kind == "memory":
        yield Idea("rl2", "adapts to the task of a trial by its memory")
        yield Idea("ppo", "with a GRU, from whole sequences", "--core gru")
        yield Idea("r2d2", "replays sequences, so each step is used often")
        yield Idea("drqn", "the same, simpler")
    if kind in ("values", "pixels"):
        yield from _discrete(kind, facts, plenty)
    if kind == "control":
        yield from _control(facts, plenty)
    if kind == "policy":
        yield Idea("ppo", "a policy over any product of actions")
        yield Idea("a2c", "simpler, for many environments at once")


def _discrete(kind: str, facts: Facts, plenty: bool) -> Iterator[Idea]:
    if facts.silent:
        if facts.repeats:
            yield Idea("go-explore", "the same actions lead to the same place, so it can return to where it was")
        yield Idea("ppo", "with a bonus for what is new, as random play met no reward", "--curiosity rnd")
        yield Idea("bootstrapped-dqn", "explores by an ensemble that disagrees where little is known")
    ppo = Idea("ppo", "robust, and fast where steps are cheap")
    pqn = Idea("pqn", "Q-learning without a memory: fast where steps are cheap")
    dqn = Idea("dqn", "uses every step many times")
    rainbow = Idea("rainbow", "DQN with what made it more sample-efficient, at more work a step")
    few = [rainbow, Idea("drq", "shifts pictures, for few steps"), dqn] if kind == "pixels" else [dqn, rainbow]
    yield from [ppo, pqn, dqn] if plenty else [*few, ppo]


def _control(facts: Facts, plenty: bool) -> Iterator[Idea]:
    ppo = Idea("ppo", "robust, and fast where steps are cheap")
    sac = Idea("sac", "uses every step many times, and sets its exploration itself")
    tqc = Idea("tqc", "SAC with less overestimation: the better one after many steps")
    if plenty:
        yield from (ppo, sac)
        yield Idea("mpc", "plans with the simulator itself: good at once, without training")
        yield tqc
        return
    yield from (sac, tqc)
    yield Idea("crossq", "as few steps as REDQ, at the price of SAC")
    yield ppo


def _remarks(kind: str, facts: Facts, plenty: bool) -> Iterator[str]:
    """What else to think of."""
    if kind == "nothing":
        yield "Check the environment: thorndike check ENV. Does step use its action, and the reward?"
    if kind == "rule":
        yield "Write it down: def rule(observation): return " + str(facts.constant)
        yield "If a learned agent has to be compared with it: td.criteria(run, rule)."
    if kind == "bandit":
        yield "Count: the mean reward of each action and a bonus such as sqrt(2 log t / n) is all that it takes (UCB1)."
    if kind == "contextual bandit":
        yield "Where the best action of each observation is known, fit it: supervised learning needs no exploration."
        yield "Where it is not, regress the reward on observation and action, and mostly take the best action."
        yield "Where actions change something that is not shown, this is none: ask with memory=True."
    if kind in ("plan", "table"):
        yield "A table takes the observation for the whole state. Where something is hidden, ask with memory=True."
    if facts.silent and kind not in ("nothing", "rule", "game", "plan"):
        yield (
            "Random play met no reward that differed from the others: give more of them (td.Shaping), start nearer to "
            "the goal (td.Curriculum), or explore on purpose."
        )
    if kind == "control" and facts.compiled and plenty:
        yield "Are a few milliseconds for each action allowed, and no training? Then mpc. Else it is a baseline."
    if kind in ("values", "control") and not facts.compiled:
        yield "Many steps to spare? Then say steps=1_000_000: where they are cheap, PPO is the faster way."
    if kind in ("values", "control", "pixels", "policy"):
        yield "Do velocities or older events matter that the observation does not show? Then ask with memory=True."
    if kind not in ("nothing", "rule", "bandit", "plan", "game"):
        yield "Is there a rule of thumb? Write it first, and compare: td.criteria(run, rule)."


def _recorded(spec: Spec) -> list[Idea]:
    """Offline algorithms, in the order of the list."""
    found = [(name, entry) for name, entry in entries().items() if getattr(algorithm_class(name), "offline", False)]
    cautious = [(name, entry) for name, entry in found if name != "bc"]
    return [Idea("bc", "imitates; the baseline, and enough where the data is good")] + [
        Idea(name, entry.summary) for name, entry in cautious
    ]


def _serves(name: str, spec: Spec) -> bool:
    """Whether there is such an algorithm, and it can serve the environment."""
    return name in entries() and serves(algorithm_class(name)(), spec) is None


def _remembered(id: str) -> bool:
    """Whether settings that are known for an environment have a memory."""
    return bool(id) and any(preset_for(algorithm_class(name), id)[0].get("core") is not None for name in ("ppo", "dqn"))


def _name(world: Any) -> str:
    return getattr(world, "id", None) or type(world).__name__
