"""Environments: built in (pure JAX, one per file), Gymnasium's on the host, and your own of either kind."""

from __future__ import annotations

import importlib
from typing import Any

BUILT_IN = {  # id: (module, factory); where Gymnasium has one of that id, parity is proven by a test
    "CartPole-v1": ("classic.cartpole", "CartPole"),
    "Acrobot-v1": ("classic.acrobot", "Acrobot"),
    "MountainCar-v0": ("classic.mountain_car", "MountainCar"),
    "MountainCarContinuous-v0": ("classic.mountain_car_continuous", "MountainCarContinuous"),
    "Pendulum-v1": ("classic.pendulum", "Pendulum"),
    "CartPoleNoVel-v1": ("classic.cartpole", "without_velocities"),
    "CliffWalking-v1": ("grid.grid_world", "cliff_walking"),
    "GridWorld": ("grid.grid_world", "GridWorld"),
    "FourRooms": ("grid.grid_world", "four_rooms"),
    "DynaMaze": ("grid.grid_world", "dyna_maze"),
    "LargeDynaMaze": ("grid.grid_world", "large_dyna_maze"),
    "BlockingMaze": ("grid.changing_maze", "blocking_maze"),
    "ShortcutMaze": ("grid.changing_maze", "shortcut_maze"),
    "CliffWalkingSlippery-v1": ("toy_text.tables", "slippery_cliff"),
    "FrozenLake-v1": ("toy_text.tables", "frozen_lake"),
    "FrozenLake8x8-v1": ("toy_text.tables", "frozen_lake_8x8"),
    "Taxi-v3": ("toy_text.tables", "taxi_v3"),
    "Taxi-v4": ("toy_text.tables", "taxi"),
    "Blackjack-v1": ("toy_text.blackjack", "Blackjack"),
    "BoatRace": ("grid.boat_race", "BoatRace"),
    "DeepSea": ("grid.deep_sea", "DeepSea"),
    "RiverSwim": ("grid.river_swim", "RiverSwim"),
    "BitFlip": ("goal.bit_flip", "BitFlip"),
    "Reach": ("goal.reach", "Reach"),
    "PointMaze": ("continuous.point_maze", "PointMaze"),
    "Reactor": ("control.reactor", "Reactor"),
    "Streets": ("driving.streets", "Streets"),
    "RoutedStreets": ("driving.routed", "routed_streets"),
    "RepeatPrevious": ("memory.repeat_previous", "RepeatPrevious"),
    "TMaze": ("memory.t_maze", "TMaze"),
    "Bandit": ("tasks.bandit", "Bandit"),
    "Doors": ("tasks.doors", "Doors"),
    "DarkRoom": ("tasks.dark_room", "DarkRoom"),
    "RandomMDP": ("tasks.random_mdp", "RandomMDP"),
    "Navigation2D": ("tasks.navigation", "Navigation2D"),
    "BanditTrials": ("tasks.trials", "bandit_trials"),
    "DoorsTrials": ("tasks.trials", "doors_trials"),
    "DarkRoomTrials": ("tasks.trials", "dark_room_trials"),
    "RandomMDPTrials": ("tasks.trials", "random_mdp_trials"),
}

ADAPTERS = ("pgx", "gymnax", "brax", "playground", "envpool", "pettingzoo")  # prefixes of ids


def full_id(name: str) -> str:
    """`name` with the version that it stands for where it has none: the newest, built in or Gymnasium's.

    "Taxi" is "Taxi-v4", and "gymnasium/Ant" is "gymnasium/Ant-v5". A name of another library or module stays as it is,
    and so does one that is unknown. Nothing is imported to find out.
    """
    if name.partition("/")[0] in ADAPTERS or ":" in name or name in BUILT_IN:
        return name
    import gymnasium

    backend, plain = _backend(name)
    known = [] if backend == "gymnasium" else list(BUILT_IN)
    known += [] if backend == "thorndike" else list(gymnasium.registry)
    parts = [(id, *id.rpartition("-v")[::2]) for id in known]
    versions = {int(version): id for id, stem, version in parts if stem == plain and version.isdigit()}
    return name.removesuffix(plain) + versions[max(versions)] if versions and plain not in known else name


def known(name: str) -> bool:
    """Whether an id is likely to name an environment; nothing is imported to find out but Gymnasium."""
    import gymnasium

    plain = _backend(full_id(name))[1]
    return plain in BUILT_IN or plain in gymnasium.registry or ":" in name or name.partition("/")[0] in ADAPTERS


def _backend(name: str) -> tuple[str, str]:
    """ "gymnasium" or "thorndike" where an id begins with that, else "", and the rest of it."""
    backend, _, plain = name.partition("/") if name.startswith(("gymnasium/", "thorndike/")) else ("", "", name)
    return backend, plain


def built_in(name: str, **kwargs: Any) -> Any:
    """The built-in JAX environment of that name."""
    from thorndike.errors import ConfigError

    module, factory = BUILT_IN[name]
    try:
        return getattr(importlib.import_module(f"thorndike.envs.{module}"), factory)(**kwargs)
    except TypeError as error:
        raise ConfigError(f"{name} cannot be made with {kwargs}: {error}") from None


def make(env: Any, **kwargs: Any) -> Any:
    """An environment that `td.train` can use.

    Args:
        env: an id, a JAX environment, a `gymnasium.Env` class, instance or factory, or, to learn from a dataset where
            there is nothing to step in, the pair of spaces (observation, action). "CartPole-v1" takes the
            built-in twin where there is one, else Gymnasium's; "gymnasium/CartPole-v1" and "thorndike/CartPole-v1"
            force one. Without a version it is the newest: see `full_id`. "my_envs:Maze-v0" is what the module `my_envs`
            registers, "my_envs:Maze" a class, function or environment in it. Other libraries': "pgx/tic_tac_toe",
            "gymnax/Breakout-MinAtar", "brax/ant", "playground/CartpoleBalance", "envpool/Pong-v5",
            "pettingzoo/simple_spread_v3".
        **kwargs: given to the environment's constructor.

    Raises:
        UnknownNameError: no such id; names the nearest.
        MissingExtraError: it needs a package that is not installed; says which.
    """
    from thorndike.errors import ConfigError, IncompatibleError, UnknownNameError
    from thorndike.names import did_you_mean, nearest

    if isinstance(env, str) and env.partition("/")[0] in ADAPTERS:
        library, _, name = env.partition("/")
        return _adapted(library, name, kwargs)
    if isinstance(env, str):
        backend, name = _backend(full_id(env))
        if name in BUILT_IN and backend != "gymnasium":
            return built_in(name, **kwargs)
        if backend == "thorndike":
            raise UnknownNameError(f"no built-in environment {name!r}{did_you_mean(name, BUILT_IN)}")
        lowered = {known.lower(): known for known in BUILT_IN}
        if name.lower() in lowered and not backend:
            raise UnknownNameError(f"no environment {name!r} (did you mean {lowered[name.lower()]!r}?)")
        from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment

        own = _own(name) if ":" in name else None
        if own is not None:
            return make(own, **kwargs)
        try:
            return GymnasiumEnvironment(name, **kwargs)
        except UnknownNameError:
            import gymnasium

            if backend:
                raise
            stems = {known.rpartition("-v")[0] or known: known for known in (*gymnasium.registry, *BUILT_IN)}
            near = nearest(name.rpartition("-v")[0] or name, stems)
            hint = f" (did you mean {stems[near]!r}?)" if near else ""
            prefixes = ", ".join(f"{library}/" for library in ADAPTERS)
            raise UnknownNameError(
                f"no environment {name!r}{hint}; other libraries' ids begin with {prefixes}"
            ) from None
    from thorndike.configuration import is_config
    from thorndike.envs.batched import PARTS, is_jax

    if is_config(env) and isinstance(env, type):
        env, kwargs = env(**kwargs), {}
    if is_config(env) and not is_jax(env):
        lacks = ", ".join(part for part in PARTS if not hasattr(type(env), part))
        raise IncompatibleError(f"{type(env).__name__} is no JAX environment: it lacks {lacks} (see td.Environment)")
    if is_jax(env) or (hasattr(env, "masked") and hasattr(env, "batch") and not isinstance(env, type)):  # an adapter's
        if kwargs:
            raise ConfigError(f"{type(env).__name__} exists already and takes no arguments: {', '.join(kwargs)}")
        return _with_vectors(env) if is_jax(env) else env
    from thorndike.envs.adapters.gymnasium import GymnasiumEnvironment

    if callable(env) or hasattr(env, "step"):
        return GymnasiumEnvironment(env, **kwargs)
    from gymnasium import Space

    from thorndike.envs.recorded import Recorded

    if isinstance(env, tuple) and len(env) == 2 and all(isinstance(space, Space) for space in env):
        return Recorded(*env)
    raise IncompatibleError(
        f"{env!r} is not an environment: give an id, a JAX environment, or a gymnasium.Env class, instance or factory; "
        "to learn from a dataset without any, the pair of its spaces, (observation, action)"
    )


def _with_vectors(env: Any) -> Any:
    """A JAX environment, its nested actions as vectors."""
    from gymnasium.spaces import Dict, Tuple

    if not isinstance(getattr(env, "action_space", None), (Dict, Tuple)):  # around what is none it has no space
        return env
    from thorndike.envs.wrappers.mixed import MixedActions

    return MixedActions(env=env)


def _own(name: str) -> Any:
    """The class, function or environment that "my_envs:Maze" names; None where that is an id which `my_envs` registers.

    Raises `UnknownNameError` for what is neither.
    """
    import gymnasium

    from thorndike.envs.adapters.gymnasium import own_module
    from thorndike.errors import UnknownNameError
    from thorndike.names import did_you_mean

    module, plain = own_module(name), name.rpartition(":")[2]
    if plain in gymnasium.registry or any(id.rpartition("-v")[0] == plain for id in gymnasium.registry):
        return None
    if hasattr(module, plain):
        return getattr(module, plain)
    mine = [word for word, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    near = did_you_mean(plain, [*mine, *gymnasium.registry])
    raise UnknownNameError(f"{module.__name__} neither registers {plain!r} nor has anything of that name{near}")


def _adapted(library: str, name: str, kwargs: dict[str, Any]) -> Any:
    """The environment `name` of another library."""
    from thorndike.errors import ConfigError

    given = [key for key in kwargs if not isinstance(key, str) or key in ("name", "simulator")]
    if given:
        raise ConfigError(f"{', '.join(map(str, given))}: the environment is named by its id, {library}/{name}")
    if library in ("brax", "playground"):
        from thorndike.envs.adapters.brax import make as robot

        return robot(library, name, **kwargs)
    return importlib.import_module(f"thorndike.envs.adapters.{library}").make(name, **kwargs)
