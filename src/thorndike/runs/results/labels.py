"""What curves are called in a legend: by what differs between their runs."""

from __future__ import annotations

import os
from typing import Any

from thorndike.runs.results.curves import Curve
from thorndike.runs.storage.journal import Journal
from thorndike.settings import differing, flat, spell


def labels(curves: list[Curve]) -> list[str]:
    """A name for each curve, different ones for different runs on the same axes.

    A name is the algorithm and the settings that differ between the curves of that algorithm on the same axes. Where
    some are based on the preset and some on the defaults, it says which, and how they differ from it. Seeds, and then
    folders, are added where names are still the same.
    """
    names = [""] * len(curves)
    for group in _groups([(curve.panel, curve.journal.settings["type"]) for curve in curves]):
        for i, text in zip(group, _settings([curves[i] for i in group])):
            names[i] = ", ".join(filter(None, [curves[i].journal.name, text]))
    for more in (_seeds, _folders):
        for group in _groups([(curve.panel, name) for curve, name in zip(curves, names)]):
            for i, text in zip(group, more([curves[i].journal for i in group])):
                names[i] += text
    return names


def of_configurations(curves: list[Curve]) -> list[str]:
    """What a run's curves are called beside each other: the values that are swept, "" where nothing is."""
    swept = [() if curve.configuration is None else curve.journal.swept for curve in curves]
    return [spell({name: curve.settings[name] for name in names}) for curve, names in zip(curves, swept)]


def _groups(keys: list[Any]) -> list[list[int]]:
    """The indices at which keys are equal, in the order of their first."""
    found: dict[Any, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _settings(curves: list[Curve]) -> list[str]:
    """How the settings of these curves of one algorithm differ."""
    all_settings = [curve.settings for curve in curves]
    kinds = [(curve.journal.base, {name: curve.settings[name] for name in curve.journal.changed}) for curve in curves]
    worlds = [_world(curve.journal) for curve in curves]
    told = differing(worlds)
    about = [{name: world[name] for name in told} for world in worlds]
    if len({base for base, _ in kinds}) > 1:
        return [", ".join(filter(None, [base, spell(fields | w)])) for (base, fields), w in zip(kinds, about)]
    names = differing(all_settings)
    return [spell({name: settings[name] for name in names} | w) for settings, w in zip(all_settings, about)]


def _world(journal: Journal) -> dict[str, Any]:
    """Fields or arguments of the environment, and the dataset, that may tell two runs apart."""
    fields = journal.environment.get("fields") or journal.environment.get("kwargs")
    data = journal.info.get("dataset")
    known = flat(fields) if isinstance(fields, dict) else {}
    return {f"env.{name}": value for name, value in known.items()} | {"dataset": data and os.path.basename(data)}


def _seeds(journals: list[Journal]) -> list[str]:
    """ ", seed 3" where runs that are called the same have others."""
    if len({(journal.seed, journal.seeds) for journal in journals}) == 1:
        return [""] * len(journals)
    last = [journal.seed + journal.seeds - 1 for journal in journals]
    return [f", seed {j.seed}" if j.seeds == 1 else f", seeds {j.seed} to {end}" for j, end in zip(journals, last)]


def _folders(journals: list[Journal]) -> list[str]:
    """ ", in runs/x" where runs that are called the same are in different folders."""
    paths = [str(journal.path) for journal in journals]
    if len(set(paths)) == 1:
        return [""] * len(paths)
    return [f", {os.path.relpath(path, os.path.commonpath(paths))}" for path in paths]
