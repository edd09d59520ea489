"""The dataset that a run learns from, found again by what `run.json` says of it."""

from __future__ import annotations

from typing import Any

from thorndike.errors import ConfigError
from thorndike.memory.dataset import Dataset


def dataset_of(info: dict[str, Any]) -> Dataset:
    """The dataset that `run.json` names; raises `ConfigError` where there is none, or another one by now."""
    data, digest = Dataset(info["dataset"]), info.get("dataset_digest")
    if digest is not None and data.digest() != digest:
        raise ConfigError(
            f"{data.path} has changed since this run began to learn from it: put the dataset of then back, or start a "
            "new run"
        )
    return data
