"""Small environments for tests of the host side: counters, echoes, liars. Workers import this file."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

LINE = Box(-1e6, 1e6, (1,), np.float32)


class Counter(gym.Env):
    """Observes the time, is paid the time, and ends at `length`: at every odd episode by truncation."""

    observation_space, action_space = LINE, Discrete(2)

    def __init__(self, length=3):
        self.length, self.episode = length, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        end, odd = self.t == self.length, self.episode % 2 == 1
        return (
            np.array([self.t], np.float32),
            float(self.t),
            end and not odd,
            end,
            {},
        )  # both flags where even


class Noise(gym.Env):
    """Draws observations from its own generator, so that they tell the seed."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float64), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = seed
        return self.np_random.normal(size=2), {}

    def step(self, action):
        return self.np_random.normal(size=2), 0.0, bool(self.np_random.random() < 0.2), False, {}


class Echo(gym.Env):
    """Insists on actions of its space and observes them."""

    def __init__(self, space):
        self.action_space = space
        self.observation_space = Box(-np.inf, np.inf, (int(np.prod(space.shape or ())),), np.float64)

    def reset(self, *, seed=None, options=None):
        return np.zeros(self.observation_space.shape), {}

    def step(self, action):
        assert self.action_space.contains(action), (action, self.action_space)
        return np.ravel(np.asarray(action, np.float64)), 0.0, False, False, {}


class Nested(gym.Env):
    """A nested observation; everything in it tells the time."""

    observation_space = Dict(
        {
            "image": Box(0, 255, (2, 3, 1), np.uint8),
            "pair": Tuple([Discrete(50, start=3), MultiBinary(2)]),
            "wide": Box(-np.inf, np.inf, (2,), np.float64),
        }
    )
    action_space = Discrete(2)

    def _observation(self):
        t = self.t
        pair = (3 + t, np.array([t % 2, 1], np.int8))
        return {"image": np.full((2, 3, 1), t, np.uint8), "pair": pair, "wide": np.array([t, -t], np.float64)}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        return self._observation(), 0, np.bool_(self.t == 4), 0, {}


class Masked(gym.Env):
    """Only the action t mod 3 is legal; the last step has no legal action and, with `silent`, no mask."""

    observation_space, action_space = LINE, Discrete(3)

    def __init__(self, silent=False):
        self.silent = silent

    def _info(self):
        return {"action_mask": np.arange(3) == self.t % 3}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action):
        assert action == self.t % 3
        self.t += 1
        end = self.t == 5
        info = ({} if self.silent else {"action_mask": np.zeros(3, np.int8)}) if end else self._info()
        return np.array([self.t], np.float32), 1.0, end, False, info


class Modules(gym.Env):
    """Observes whether jax is imported where it runs, and which process that is."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float64), Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.array([float("jax" in sys.modules), os.getpid()]), {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


class Slow(Counter):
    """Takes a millisecond a step."""

    def step(self, action):
        time.sleep(0.001)
        return super().step(action)


class Dawdling(Counter):
    """Begins slowly."""

    def reset(self, *, seed=None, options=None):
        time.sleep(0.3)
        return super().reset(seed=seed)


class Unhappy(Exception):
    """What a faulty environment raises."""


def _raise():
    raise Unhappy("on purpose")


FAULTS = {  # kind -> (what the error says, how an observation is spoilt)
    "raises": ("Unhappy: on purpose", lambda obs: _raise()),
    "exits": ("SystemExit", lambda obs: sys.exit(3)),
    "nan": ("observation is not finite", lambda obs: obs * np.nan),
    "inf": ("observation is not finite", lambda obs: obs + np.inf),
    "huge": ("observation is not finite", lambda obs: np.array([1e300])),
    "shape": ("shape (2,), its space says (1,)", lambda obs: np.zeros(2)),
    "dtype": ("dtype complex128", lambda obs: np.zeros(1, complex)),
    "ragged": ("ragged", lambda obs: [1.0, [2.0]]),
    "structure": ("shape (), its space says (1,)", lambda obs: {"x": obs}),
    "hangs": ("did not answer in time", lambda obs: time.sleep(60)),
    "dies": ("exit code 5", lambda obs: os._exit(5)),
    "killed": ("killed by signal 9", lambda obs: os.kill(os.getpid(), signal.SIGKILL)),
    "crashes": ("killed by signal 11", lambda obs: ctypes.string_at(0)),
}


class Faulty(gym.Env):
    """Counts to 4, and does wrong at its `at`-th step or its second reset (each copy anew)."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,), np.float64), Discrete(2)

    def __init__(self, kind, phase="step", at=3, unlucky=None):
        self.kind, self.phase, self.at, self.unlucky = kind, phase, at, unlucky
        self.steps, self.resets, self.mine = 0, 0, True

    def _observation(self, phase, count, at):
        obs = np.array([self.t], np.float64)
        if phase == self.phase and count == at and self.mine:
            return FAULTS[self.kind][1](obs)
        return obs

    def reset(self, *, seed=None, options=None):
        if seed is not None and self.unlucky is not None:
            self.mine = seed == self.unlucky
        self.t, self.resets = 0, self.resets + 1
        return self._observation("reset", self.resets, 2), {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        return self._observation("step", self.steps, self.at), 1.0, self.t == 4, False, {}


class Answers(gym.Env):
    """Returns `answer` from its second step, or `first` from its second reset."""

    action_space = Discrete(2)

    def __init__(self, answer=None, first=None, space=LINE):
        self.answer, self.first, self.observation_space, self.calls = answer, first, space, 0
        self.good = np.zeros(1, np.float32) if space is LINE else space.sample()

    def reset(self, *, seed=None, options=None):
        self.calls += 1
        return self.first if self.first is not None and self.calls > 1 else (self.good, {})

    def step(self, action):
        self.calls += 1
        return self.answer if self.answer is not None and self.calls > 2 else (self.good, 0.0, True, False, {})


class Broken(Counter):
    """Cannot begin."""

    def reset(self, *, seed=None, options=None):
        raise Unhappy("no beginning")


class AtOnce(Counter):
    """Does what `kind` says when it is made, or in its first `phase`."""

    def __init__(self, kind, phase):
        super().__init__()
        self.kind, self.phase = kind, phase
        self.fail("construction")

    def fail(self, phase):
        if phase == self.phase:
            FAULTS[self.kind][1](np.zeros(1))

    def reset(self, *, seed=None, options=None):
        self.fail("reset")
        return super().reset(seed=seed)

    def step(self, action):
        self.fail("step")
        return super().step(action)


class Hopeless(Counter):
    """Raises at every step."""

    def step(self, action):
        raise Unhappy("always")


class SeedTeller(Hopeless):
    """Observes its seed, and raises at every step."""

    def reset(self, *, seed=None, options=None):
        return np.array([seed or 0], np.float32), {}


class Interrupted(Counter):
    """Is interrupted by the user."""

    def step(self, action):
        raise KeyboardInterrupt


def play(batch, *actions):
    """The timesteps after a reset and each of the actions."""
    batch.reset()
    return [batch.step(action) for action in actions]


class Slower(Counter):
    """Takes `seconds` for each step and reset; where its seed is `unlucky`, its first step never ends."""

    def __init__(self, seconds, unlucky=None):
        super().__init__()
        self.seconds, self.unlucky, self.hangs = seconds, unlucky, False

    def reset(self, *, seed=None, options=None):
        self.hangs = seed is not None and seed == self.unlucky
        time.sleep(self.seconds)
        return super().reset(seed=seed)

    def step(self, action):
        time.sleep(60 if self.hangs else self.seconds)
        return super().step(action)


class Stubborn(Counter):
    """Tries for a while what never works, and goes on whatever is raised."""

    def step(self, action):
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                time.sleep(0.1)
                raise Unhappy("not yet")
            except:  # noqa: E722
                time.sleep(0.05)
        return super().step(action)


class Wordless(Exception):
    """Has no text."""

    def __str__(self):
        return self.args[1]


class Speechless(Counter):
    """Raises what cannot be printed."""

    def step(self, action):
        raise Wordless("x")


class Parent(Counter):
    """Starts a process, and observes its number; `hangs` in the first step of the first copy of a process."""

    observation_space = Box(0, 2**31 - 1, (1,), np.int32)

    def __init__(self, hangs):
        super().__init__()
        self.hangs = hangs
        self.child = subprocess.Popen(["sleep", "100"])

    def reset(self, *, seed=None, options=None):
        self.hangs = self.hangs and seed is not None and seed < 1_000_003  # not where it was restarted
        super().reset(seed=seed)
        return np.array([self.child.pid], np.int32), {}

    def step(self, action):
        time.sleep(60 if self.hangs else 0)
        _, *rest = super().step(action)
        return np.array([self.child.pid], np.int32), *rest
