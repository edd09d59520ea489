"""Stepping a slice of host environments: the same code in this process and in a worker process."""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thorndike.envs.host.layout import DROPPED, GOES_ON, TERMINATED, TRUNCATED, Block, Fault, Layout

LIMIT = 10  # consecutive failures of one environment that a restarting batch tolerates
PHASES = CONSTRUCTION, RESET, STEP = ("construction", "reset", "step")
GRACE = 2.0  # seconds that a worker has to close its environments
CATCH = (Exception, SystemExit)  # an environment may call sys.exit; Ctrl-C is the user's
_LARGEST = 3.4028234e38  # float32


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker needs to know, all but the function that makes an environment."""

    layout: Layout
    first: int  # index in the batch of the slice's first environment
    size: int
    seeds: tuple[int, ...]  # of the first reset of each
    restart: bool
    owned: bool = True  # close the environments at the end; False for a user's own instance
    steps: int = 0  # steps that the batch has done already


class Failure(Exception):
    """An environment failed. `index` is its place in the batch, `step` the batch's, `age` the episode's."""

    def __init__(self, index: int, phase: str, step: int, age: int, text: str):
        super().__init__(index, phase, step, age, text)
        self.index, self.phase, self.step, self.age, self.text = index, phase, step, age, text

    def __str__(self) -> str:
        return f"environment {self.index} failed {when(self.phase, self.step, self.age)}: {self.text}"


def when(phase: str, step: int, age: int) -> str:
    """Where in its life an environment was, for messages."""
    if phase == STEP:
        return f"in step {step} (step {age} of its episode)"
    return f"in its {phase}" if phase == CONSTRUCTION or not step else f"in reset, after step {step}"


class Lost(Exception):
    """A worker gave no answer. `slot` is the environment of its slice that it was busy with (-1: none)."""

    def __init__(self, block: Block, job: Job, what: str):
        slot, phase, step, age, _ = block.at
        self.slot = slot
        if slot < 0:
            text = f"environments {job.first} to {job.first + job.size - 1} failed between two steps: {what}"
        else:
            text = f"environment {job.first + slot} failed {when(PHASES[phase], step, age)}: {what}"
        super().__init__(text)


class Slice:
    """Steps environments one after the other, resets those that ended, checks all that they say."""

    def __init__(self, make: Callable[[], Any], job: Job, block: Block):
        self._make, self._job, self._layout, self.block = make, job, job.layout, block
        self._envs: list[Any] = []
        self._ages = [0] * job.size
        self._seeded = [False] * job.size
        self._steps = job.steps
        self.notes: list[str] = []  # failures that a restart has mended

    def build(self) -> bool:
        """Make the environments; raises `Failure`."""
        for i in range(self._job.size):
            self.block.begins(i, 0, self._steps, 0)
            try:
                self._envs.append(self._make())
            except CATCH as error:
                raise self._failure(i, CONSTRUCTION, error) from None
        self.block.at[0] = -1
        return False

    def reset(self) -> bool:
        """Begin an episode everywhere; raises `Failure`."""
        for i in range(self._job.size):
            self._begin(i)
        self.block.at[0] = -1
        return False

    def step(self, actions: np.ndarray) -> bool:
        """Step all with `actions` [n, ...] into the block; whether any episode ended. Raises `Failure`."""
        block, layout, ages = self.block, self._layout, self._ages
        self._steps += 1
        any_ended = False
        for i, env in enumerate(self._envs):
            ages[i] += 1
            block.begins(i, 2, self._steps, ages[i])
            try:
                result = env.step(actions[i])
                if type(result) is not tuple or len(result) != 5:
                    raise Fault(f"step returned {_describe(result)}, not (obs, reward, terminated, truncated, info)")
                obs, reward, terminated, truncated, info = result
                values = layout.flat(obs)
                reward = _numbers(reward, layout.reward_shape) if layout.reward_shape else _number(reward)
                terminated = _flag(terminated, "terminated")
                ended = terminated or _flag(truncated, "truncated")
                mask = layout.mask(info, not terminated)
                logged = layout.numbers(info, ended) if layout.logged else None
            except CATCH as error:
                self._failed(i, STEP, error, actions[i])
                self._drop(i)
                any_ended = True
                continue
            if block.fails[i]:
                block.fails[i] = 0
            for array, value in zip(block.final if ended else block.obs, values):
                array[i] = value
            if mask is not None:
                (block.final_mask if ended else block.mask)[i] = mask
            block.reward[i] = reward
            if logged is not None:
                block.logged[i] = logged
            block.code[i] = TERMINATED if terminated else TRUNCATED if ended else GOES_ON
            if ended:
                any_ended = True
                self._begin(i)
        block.at[0] = -1
        return any_ended

    def _begin(self, i: int) -> None:
        self.block.begins(i, 1, self._steps, self._ages[i])
        try:
            self._reset(i)
        except CATCH as error:
            self._failed(i, RESET, error)
            self._rebuild(i)

    def _reset(self, i: int) -> None:
        env, layout = self._envs[i], self._layout
        if self._seeded[i]:
            result = env.reset()
        else:
            result = env.reset(seed=(self._job.seeds[i] + int(self.block.rebuilds[i]) * 1_000_003) % 2**31)
            self._seeded[i] = True
        obs, info = checked_reset(result)
        values = layout.flat(obs)
        mask = layout.mask(info)
        for array, value in zip(self.block.obs, values):
            array[i] = value
        if mask is not None:
            self.block.mask[i] = mask
        self._ages[i] = 0

    def _drop(self, i: int) -> None:
        """Report the episode of a failed step as dropped, at the last good observation, and begin again."""
        block = self.block
        for final, obs in zip(block.final, block.obs):
            final[i] = obs[i]
        block.final_mask[i] = block.mask[i]
        block.reward[i], block.logged[i], block.code[i] = 0.0, 0.0, DROPPED
        self._rebuild(i)

    def _rebuild(self, i: int) -> None:
        while True:
            self._close(i)
            self.block.rebuilds[i] += 1
            self._seeded[i] = False
            self.block.begins(i, 1, self._steps, self._ages[i])
            try:
                self._envs[i] = self._make()
                return self._reset(i)
            except CATCH as error:
                self._failed(i, RESET, error)

    def _failed(self, i: int, phase: str, error: BaseException, action: Any = None) -> None:
        failure = self._failure(i, phase, error, action)
        self.block.fails[i] += 1
        if not self._job.restart:
            raise failure from None
        if self.block.fails[i] > LIMIT:
            failure.text += f"\nThis was its failure {LIMIT + 1} without a good step in between."
            raise failure from None
        self.notes.append(str(failure))

    def _failure(self, i: int, phase: str, error: BaseException, action: Any = None) -> Failure:
        if isinstance(error, Fault):
            text = str(error)
        else:
            text = f"{named(error)}\n\n{''.join(traceback.format_exception(error))}"
        if action is not None and np.asarray(action).dtype.kind == "f" and not np.isfinite(action).all():
            text += f"\nThe action was not finite ({action}): the algorithm may have diverged."
        return Failure(self._job.first + i, phase, self._steps, self._ages[i], text)

    def _close(self, i: int) -> None:
        if self._job.owned:
            with contextlib.suppress(*CATCH):
                self._envs[i].close()

    def close(self) -> None:
        """Close the environments, whatever they answer."""
        for i in range(len(self._envs)):
            self._close(i)
        self._envs = []


def env_seeds(seed: int | Sequence[int], num_envs: int) -> tuple[int, ...]:
    """The seeds of the first resets: `(seed * 10007 + i) mod 2**31`; several seeds share the environments, in order."""
    seeds = seed if isinstance(seed, Sequence) else [seed]
    return tuple((int(one) * 10007 + i) % 2**31 for one in seeds for i in range(num_envs // len(seeds)))


def named(error: BaseException) -> str:
    """An error's type and text, whatever its own `__str__` does."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as worse:
        return f"{type(error).__name__} (its text cannot be had: {type(worse).__name__})"


def checked_reset(result: Any) -> tuple[Any, Any]:
    """The observation and `info` that a reset returned; raises `Fault` where it returned something else."""
    if type(result) is not tuple or len(result) != 2:
        raise Fault(f"reset returned {_describe(result)}, not (obs, info)")
    return result


def _number(reward: Any) -> float:
    if type(reward) is not float:
        if not isinstance(reward, (int, float, np.number, np.bool_)) and np.shape(reward) != ():
            raise Fault(f"reward has shape {np.shape(reward)}, it should be a number")
        try:
            reward = float(reward)
        except (TypeError, ValueError):
            raise Fault(f"reward is {_describe(reward)}, it should be a number") from None
    if not -_LARGEST <= reward <= _LARGEST:
        raise Fault(f"reward is {reward}, not a finite float32")
    return reward


def _numbers(reward: Any, shape: tuple[int, ...]) -> np.ndarray:
    reward = np.asarray(reward)
    if reward.shape != shape:
        raise Fault(f"reward has shape {reward.shape}, it should be {shape}: one for each agent")
    if not (np.abs(reward) <= _LARGEST).all():
        raise Fault(f"reward is {reward}, not finite float32")
    return reward


def _flag(value: Any, name: str) -> bool:
    if type(value) is bool:
        return value
    if isinstance(value, (np.bool_, int, np.integer, np.ndarray)) and np.shape(value) == ():
        return bool(value)
    raise Fault(f"{name} is {_describe(value)}, it should be a bool")


def _describe(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} values"
    return f"{type(value).__name__} {str(value)[:60]!r}"
