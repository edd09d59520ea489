"""Settings as `run.json` has them: flat, what differs between them, and a short text of that. No class is needed."""

from __future__ import annotations

from typing import Any

LONGEST = 32  # characters of a value in `spell`


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The fields of `to_json`'s data under dotted names; a config within it is its class's name and its fields.

    `{"type": "DQN", "tau": 1.0, "exploration": {"type": "Epsilon", "end": 0.1}}` becomes
    `{"tau": 1.0, "exploration": "Epsilon", "exploration.end": 0.1}`.
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "type":
            continue
        if not isinstance(value, dict) or "type" in value:
            found[name] = str(value["type"]).removeprefix("own ") if isinstance(value, dict) else value
        if isinstance(value, dict):
            found |= {f"{name}.{field}": item for field, item in flat(value).items()}
    return found


def differing(all_settings: list[dict[str, Any]]) -> list[str]:
    """The names whose values are not the same in all of these flat settings.

    Names that only some have are left out: they belong to a config that the others do not have, whose class already
    differs, or to another version.
    """
    first, *others = all_settings
    shared = [name for name in first if all(name in other for other in others)]
    differ = [name for name in shared if any(first[name] != other[name] for other in others)]
    return [name for name in differ if not any(name.startswith(f"{outer}.") for outer in differ)]


def changes(settings: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What of these flat settings differs from `base`, as far as `base` knows it."""
    return {name: settings[name] for name in differing([settings, base])}


def spell(fields: dict[str, Any]) -> str:
    """One line: "learning_rate=0.001, torso.widths=(64, 64)"."""
    return ", ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_text, value))})"
    return str(value)
