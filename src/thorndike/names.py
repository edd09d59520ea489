"""Names that people type: the nearest right one for a wrong one. Imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

OTHERS = {  # what other libraries call a field: what it is called here
    "gamma": "discount",
    "lr": "learning_rate",
    "ent_coef": "entropy_coefficient or temperature",
    "vf_coef": "value_coefficient",
    "gae_lambda": "trace",
    "lam": "trace",
    "clip_range": "clip",
    "clip_coef": "clip",
    "clip_range_vf": "value_clip",
    "n_epochs": "epochs",
    "update_epochs": "epochs",
    "n_steps": "rollout_length",
    "num_steps": "rollout_length",
    "n_envs": "num_envs",
    "batch_size": "minibatch_size or replay.batch_size",
    "num_minibatches": "minibatch_size",
    "buffer_size": "replay.capacity",
    "learning_starts": "replay.warmup",
    "train_freq": "rollout_length",
    "gradient_steps": "replay_ratio",
    "v_min": "head.low",
    "v_max": "head.high",
    "n_atoms": "head.atoms",
    "num_atoms": "head.atoms",
    "n_quantiles": "head.n",
    "target_update_interval": "target_period",
    "target_network_frequency": "target_period",
    "exploration_fraction": "exploration.fraction",
    "exploration_final_eps": "exploration.end",
    "exploration_initial_eps": "exploration.start",
    "anneal_lr": "learning_rate, a schedule such as td.Linear(3e-4)",
    "norm_obs": "normalize_observation",
    "norm_reward": "normalize_reward",
    "norm_adv": "normalize_advantage",
    "policy_kwargs": "torso, such as td.Torso(widths=(64, 64))",
    "net_arch": "torso, such as td.Torso(widths=(64, 64))",
    "activation_fn": "torso.activation",
    "total_timesteps": "steps",
    "timesteps": "steps",
    "n_timesteps": "steps",
    "callback": "on_row",
    "verbose": "progress",
    "tensorboard_log": "tensorboard",
    "eval_freq": "evaluate_every",
    "n_eval_episodes": "evaluate_episodes",
    "env_id": "env",
    "env_name": "env",
    "total_steps": "steps",
    "num_timesteps": "steps",
    "max_steps": "steps",
    "learning_rate_schedule": "learning_rate, a schedule such as td.Linear(3e-4)",
    "entropy_coef": "entropy_coefficient or temperature",
    "ent_weight": "entropy_coefficient or temperature",
    "value_loss_coef": "value_coefficient",
    "alpha": "learning_rate or temperature",
    "epsilon": "exploration",
    "eps": "exploration or clip",
    "hidden_sizes": "torso, such as td.Torso(widths=(64, 64))",
    "progress_bar": "progress",
    "log_interval": "log_every",
    "save_freq": "checkpoint_steps",
    "save_path": "out",
    "log_dir": "out",
    "eval_episodes": "evaluate_episodes",
    "random_seed": "seed",
    "num_seeds": "seeds",
    "num_workers": "workers",
    "policy": "algorithm",
}


def called(word: str, options: Iterable[str]) -> str:
    """ ": it is called x here" where `word` is another library's name for one of the options or their parts, else
    `did_you_mean`."""
    options = list(options)
    ours = OTHERS.get(word.replace("-", "_"), "")
    stems = {part.partition(".")[0].strip(",") for part in ours.replace(" or ", " ").split()}
    return f": it is called {ours} here" if stems & set(options) else did_you_mean(word, options)


def nearest(word: str, options: Iterable[str]) -> str | None:
    """The option that looks most like `word`, case aside; None if none does."""
    lowered = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.5)
    return lowered[near[0]] if near else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the nearest option, or an empty string."""
    near = nearest(word, options)
    return f" (did you mean {near!r}?)" if near else ""
