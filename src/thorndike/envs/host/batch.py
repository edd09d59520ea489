"""A batch of host environments that resets itself: NumPy in, NumPy out, with checks and time-outs.

The host counterpart of `thorndike.envs.batched`: same-step auto-reset and only here, `final_obs` always the true
successor, `terminated` and `truncated` apart. A dead, hung or lying environment ends in an `EnvError` that
names it.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from thorndike.configuration import is_whole
from thorndike.envs.batched import to_environment
from thorndike.envs.host.backends import BACKENDS, close_all
from thorndike.envs.host.guard import START
from thorndike.envs.host.layout import COST, DROPPED, GOES_ON, SUCCESS, TERMINATED, TRUNCATED, Layout, stored_space
from thorndike.envs.host.worker import LIMIT, PHASES, RESET, Failure, Job, Lost, env_seeds
from thorndike.envs.mixed import Mixed
from thorndike.errors import ConfigError, EnvError
from thorndike.types import Timestep

log = logging.getLogger("thorndike")


class HostBatch:
    """`num_envs` host environments, stepped together.

    The arrays of a `Timestep` have a leading axis [E] and are the caller's to keep: no later step writes into
    them. They are not to be written into, for `final_obs` shares memory with `obs` where no episode ended.
    Rewards and float observations are float32 (float16 stays), integer observations keep their type; info
    holds "mask" and "final_mask" (bool [E, A]) if `mask_key` is given. Actions are an algorithm's: clipped
    and shifted here, as in `wrap`. With `agents` rewards are [E, N], one for each of so many. `log_info` names numbers
    in a step's info that are handed out as `earned`: "cost", "is_success" or "success", and others to be logged.

    Seeds: environment i's first reset gets the seed `(seed * 10007 + i + k * 1000003) mod 2**31`, where k
    counts how often it was rebuilt (0 until a restart); later resets get none. Several seeds, `seed=[0, 1]`, share
    the environments: the first half is that of seed 0 alone, the second that of seed 1. So one seed gives the same
    experience, bit for bit, with any kind of workers, as long as environments use their own random generator.

    Workers: "serial" steps in this thread (an environment that hangs is stopped at its next line of Python, if this
    is the main thread), "process" in processes, one for each core, which get contiguous slices (one that hangs is
    killed). Processes run numerical libraries single-threaded unless OMP_NUM_THREADS says otherwise.

    Faults: an environment that raises, breaks its contract (NaN, wrong shape, dtype or structure, not 5 values), dies
    or gives no answer within `timeout` seconds raises `EnvError` with its index, the step and the traceback, and closes
    the batch. With `on_error="restart"` it is made anew instead, and the step reported as a truncation: reward 0,
    final_obs the last good observation, and marked in `dropped` [E]. `restarts` counts, `last_fault` tells, the log
    warns; an environment's 11th failure without a good step in between raises. Where a worker is lost, all of its
    environments restart, and episodes that had not ended in this step end so. Each environment has `timeout` seconds
    for each step and each reset; making one may take a minute, or `timeout` if that is longer.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        observation_space: Space,
        action_space: Space,
        num_envs: int,
        seed: int | Sequence[int] = 0,
        *,
        mask_key: str | None = None,
        workers: str = "serial",
        timeout: float = 60.0,
        on_error: str = "raise",
        owned: bool = True,
        agents: int | None = None,
        log_info: Sequence[str] = (),
    ):
        _check_arguments(num_envs, seed, workers, timeout, on_error)
        self.num_envs, self.workers = num_envs, workers
        self.observation_space, self.action_space = stored_space(observation_space), action_space
        self.masked = mask_key is not None
        self.last_fault = ""
        self.dropped = np.zeros(num_envs, bool)  # whose episode the last step dropped
        self._layout = Layout(observation_space, action_space, mask_key, agents, tuple(log_info))
        self._action_shape = (num_envs, *self._layout.action_shape)
        self._make, self._timeout, self._restart = make, timeout, on_error == "restart"
        self._steps, self._unusable, self._restarts_at_end = 0, "", 0
        self._obs: list[np.ndarray] = []  # of the last timestep
        self._mask: np.ndarray | None = None
        seeds = env_seeds(seed, num_envs)
        count = 1 if workers == "serial" else min(num_envs, cores())
        edges = [round(k * num_envs / count) for k in range(count + 1)]
        self._rows = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self._workers: list[Any] = []
        self._finalizer = weakref.finalize(self, close_all, self._workers)  # also at interpreter exit
        try:
            for rows in self._rows:
                job = Job(self._layout, rows.start, rows.stop - rows.start, seeds[rows], self._restart, owned)
                self._workers.append(BACKENDS[workers](make, job))
                self._workers[-1].start()
            self._wait(self._start_limit, mend=False)
        except BaseException:
            self.close()
            raise

    @property
    def restarts(self) -> int:
        """How often an environment was rebuilt."""
        now = sum(int(worker.block.rebuilds.sum()) for worker in self._workers)
        return max(now, self._restarts_at_end)

    def reset(self) -> Timestep:
        """Begin an episode in every environment. Raises `EnvError`."""
        self._send("reset")
        self._wait(self._timeout)
        self._obs, self._mask = self._join("obs"), self._join("mask")[0] if self.masked else None
        obs = self._layout.nest(self._obs)
        reward: Any = np.zeros((self.num_envs, *self._layout.reward_shape), np.float32)
        no: Any = np.zeros(self.num_envs, bool)
        info: dict[str, Any] = {"mask": self._mask, "final_mask": self._mask} if self.masked else {}
        return Timestep(obs, reward, no, no, obs, ~no, info)

    @property
    def nothing(self) -> dict[str, Any]:
        """What a step has earned that earned nothing, leaves [E]."""
        return self._earned(np.zeros((self.num_envs, len(self._layout.logged)), np.float32))

    def _earned(self, logged: np.ndarray) -> dict[str, Any]:
        """The numbers of a step's info [E, k], by name."""
        columns = dict(zip(self._layout.logged, logged.T))
        earned: dict[str, Any] = {COST: columns.pop(COST)} if COST in columns else {}
        done = [columns.pop(name) for name in SUCCESS if name in columns]
        return earned | ({"success": done[0]} if done else {}) | ({"log": columns} if columns else {})

    def step(self, action: Any) -> Timestep:
        """The timestep after `action` [E, ...]; environments whose episode ended are already reset.

        Raises `EnvError`, and `ConfigError` for an action of the wrong shape.
        """
        action = np.asarray(action)
        if action.shape != self._action_shape:
            raise ConfigError(f"action has shape {action.shape}, this batch needs {self._action_shape}")
        action = to_environment(self.action_space, action)
        if not isinstance(self.action_space, (Box, Mixed)):  # which to_environment has copied
            if action.dtype.kind not in "iub":
                raise ConfigError(f"action has dtype {action.dtype}, {self.action_space} needs integers")
            action = np.array(action, self._layout.action_dtype)
        if not self._obs:
            raise ConfigError("call reset() before the first step()")
        self._steps += 1
        self._send("step", action)
        any_ended = self._wait(self._timeout)
        reward: Any = self._join("reward")[0]
        terminated: Any = np.zeros(self.num_envs, bool)
        truncated, first, self.dropped = (terminated.copy() for _ in range(3))
        leaves, mask = self._join("obs"), self._join("mask")[0] if self.masked else None
        obs = final_obs = self._layout.nest(leaves)
        final_mask = mask
        if any_ended:
            (code,) = self._join("code")
            terminated, truncated, first = code == TERMINATED, code >= TRUNCATED, code != GOES_ON
            self.dropped = code == DROPPED
            final_obs = self._layout.nest(self._final(leaves, "final", first))
            if mask is not None:
                (final_mask,) = self._final([mask], "final_mask", first)
        self._obs, self._mask = leaves, mask
        info: dict[str, Any] = {"mask": mask, "final_mask": final_mask} if self.masked else {}
        earned = self._earned(self._join("logged")[0]) if self._layout.logged else {}
        return Timestep(obs, reward, terminated, truncated, final_obs, first, info, earned=earned)

    def close(self) -> None:
        """Close the environments and end the workers; what hangs for 2 s is killed or given up."""
        self._unusable = self._unusable or "the batch is closed"
        self._restarts_at_end = self.restarts
        self._finalizer()

    def __enter__(self) -> HostBatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _join(self, name: str) -> list[np.ndarray]:
        """Fresh arrays [E, ...] from the workers' own."""
        if len(self._workers) == 1:
            part = getattr(self._workers[0].block, name)
            return [leaf.copy() for leaf in part] if isinstance(part, list) else [part.copy()]
        parts = [getattr(worker.block, name) for worker in self._workers]
        leaves = zip(*parts) if isinstance(parts[0], list) else [parts]
        return [np.concatenate(leaf) for leaf in leaves]

    def _final(self, now: list[np.ndarray], name: str, first: np.ndarray) -> list[np.ndarray]:
        """`now` with the true successors where an episode ended."""
        finals = [leaf.copy() for leaf in now]
        for final, ended in zip(finals, self._join(name)):
            final[first] = ended[first]
        return finals

    @property
    def _start_limit(self) -> float:
        return max(self._timeout, START)

    def _send(self, command: str, actions: np.ndarray | None = None) -> None:
        if self._unusable:
            raise EnvError(f"{self._unusable}; make a new one")
        self._unusable = "the batch was interrupted in a step"  # until the answers are in
        self._asked = command
        for worker, rows in zip(self._workers, self._rows):
            worker.send(command, None if actions is None else actions[rows])

    def _wait(self, limit: float, mend: bool = True) -> bool:
        """All answers, each looked for in turn: no slow worker hides one that hangs. Whether any episode ended."""
        any_ended, waiting = False, deque(range(len(self._workers)))
        try:
            while waiting:
                k = waiting.popleft()
                try:
                    ended = self._workers[k].wait(limit, 1 / (1 + len(waiting)))
                except Lost as lost:
                    if not (mend and self._restart):
                        self._workers[k].kill()
                        raise
                    self._revive(k, lost)
                    ended = True
                if ended is None:
                    waiting.append(k)
                    continue
                any_ended |= ended
                if self._workers[k].notes:
                    self._note(self._workers[k].notes)
        except (Failure, Lost) as problem:
            self._unusable = "the batch is closed: an environment failed"
            self.close()
            raise EnvError(str(problem)) from None
        self._unusable = ""
        return any_ended

    def _revive(self, k: int, lost: Failure | Lost) -> None:
        """A new worker for a lost one. Its step becomes a truncation at the last good observation, except where an
        episode had ended by then: before another environment's step, or its own next reset, went wrong."""
        problem: Failure | Lost = lost
        block, n = self._workers[k].block, self._workers[k].job.size
        complete = np.arange(n) < block.at[0] + (PHASES[block.at[1]] == RESET)
        complete &= (block.code == TERMINATED) | (block.code == TRUNCATED)
        complete &= self._asked == "step"
        ended = [x.copy() for x in (*block.final, block.final_mask, block.reward, block.code, block.logged)]
        while True:
            old = self._workers[k]
            old.kill()
            slot = max(problem.slot, 0) if isinstance(problem, Lost) else problem.index - old.job.first
            self._note([str(problem)])
            if old.block.fails[slot] >= LIMIT:
                raise problem
            new = type(old)(self._make, dataclasses.replace(old.job, steps=self._steps))
            new.block.fails[:], new.block.rebuilds[:] = old.block.fails, old.block.rebuilds + 1
            new.block.fails[slot] += 1
            self._workers[k] = new
            try:
                new.start()
                _await_answer(new, self._start_limit)
                new.send("reset")
                _await_answer(new, self._timeout)
                break
            except (Failure, Lost) as again:
                problem = again
        if self._obs:
            for final, obs in zip(new.block.final, self._obs):
                final[...] = obs[self._rows[k]]
        if self._mask is not None:
            new.block.final_mask[...] = self._mask[self._rows[k]]
        new.block.reward[...], new.block.code[...] = 0.0, DROPPED
        block = new.block
        for now, then in zip((*block.final, block.final_mask, block.reward, block.code, block.logged), ended):
            now[complete] = then[complete]

    def _note(self, notes: list[str]) -> None:
        for note in notes:
            log.warning("restarted after a fault: %s", note.splitlines()[0])
        self.last_fault = notes[-1]
        notes.clear()


def _await_answer(worker: Any, limit: float) -> None:
    while worker.wait(limit, 1.0) is None:
        pass


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_arguments(num_envs: int, seed: Any, workers: str, timeout: float, on_error: str) -> None:
    if not is_whole(num_envs) or num_envs < 1:
        raise ConfigError(f"num_envs should be a positive whole number, got {num_envs!r}")
    seeds = seed if isinstance(seed, Sequence) else [seed]
    if not seeds or any(int(one) != one or one < 0 for one in seeds):
        raise ConfigError(f"seed should be a whole number from 0, got {seed!r}")
    if num_envs % len(seeds):
        raise ConfigError(f"{len(seeds)} seeds cannot share {num_envs} environments")
    if workers not in BACKENDS:
        raise ConfigError(f"workers should be one of {', '.join(BACKENDS)}, got {workers!r}")
    if not timeout > 0:
        raise ConfigError(f"timeout should be a positive number of seconds, got {timeout!r}")
    if on_error not in ("raise", "restart"):
        raise ConfigError(f'on_error should be "raise" or "restart", got {on_error!r}')
