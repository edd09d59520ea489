"""The commands of `thorndike`: one module each, imported when its command is given."""

from __future__ import annotations

COMMANDS = {  # name: (its arguments, what it does); the module of that name has `main(words)`
    "train": ("ALGORITHM ENV", "train an agent        (thorndike train ppo CartPole-v1)"),
    "resume": ("RUN", "go on with a run that stopped"),
    "tune": ("ALGORITHM ENV", "find hyperparameters  (thorndike tune ppo CartPole-v1 --over learning_rate=1e-4..1e-2)"),
    "evaluate": ("RUN", "play whole episodes and summarise the returns"),
    "watch": ("RUN", "film the agent"),
    "plot": ("RUN...", "draw learning curves, or whatever else was logged"),
    "compare": ("A... --vs B...", "which of two sides is better, how surely, and how many more seeds would tell"),
    "report": ("RUN...", "a page of runs in one file: curves, settings, signs of trouble"),
    "criteria": ("RUN", "judge an agent: against a baseline, failures, latency, cost, other physics"),
    "explain": ("RUN", "what the agent goes by: each feature's share over an episode, and a decision tree"),
    "picture": ("RUN", "draw values and greedy actions, on a grid or over two numbers of what is seen"),
    "runs": ("[DIR]", "list the runs in a folder"),
    "ui": ("[DIR]", "a page in the browser: curves while runs train, side by side; stop and resume"),
    "doctor": ("RUN...", "signs of trouble in the metrics, and what to try"),
    "play": ("RUN", "play against the agent (board games)"),
    "gtp": ("RUN", "play in any program that speaks GTP (board games), with a time for each move"),
    "record": ("RUN", "record episodes as a dataset"),
    "export": ("RUN", "write the policy as ONNX or NumPy, checked against the agent"),
    "push": ("RUN --to DIR", "a folder for a model hub: agent, ONNX, film, and a card with scores"),
    "latency": ("RUN_OR_FILE", "how long an action takes by JAX, NumPy and ONNX Runtime"),
    "check": ("ENV_OR_ALGORITHM", "whether one of your own does what training relies on"),
    "suggest": ("ENV", "which algorithm to try, and why"),
    "bench": ("learning", "train a suite of tasks, and hold what is learned beside published numbers"),
    "list": ("", "algorithms and environments; --env ENV: which algorithms for it"),
}

HEAD = "thorndike: deep reinforcement learning in JAX\n"
FOOT = "thorndike COMMAND --help has the options; thorndike train ALGORITHM ENV --help the hyperparameters."


def usage() -> str:
    """What `thorndike --help` prints."""
    calls = {f"thorndike {name} {arguments}".rstrip(): summary for name, (arguments, summary) in COMMANDS.items()}
    width = max(map(len, calls)) + 2
    return "\n".join([HEAD, *(f"  {call:{width}}{summary}" for call, summary in calls.items()), "", FOOT])
