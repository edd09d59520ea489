"""Environments around JAX environments (for those on the host there are Gymnasium's wrappers).

env = td.FrameStack(env=td.StickyActions(env=td.CartPole(), probability=0.25), frames=4)
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, MultiBinary

from thorndike.configuration import config, require
from thorndike.domains import Positive
from thorndike.envs.wrappers.base import Wrapped, Wrapper, allowed, refuse
from thorndike.envs.wrappers.shaping import refuse_shaped
from thorndike.nets.cnn import channels_first
from thorndike.nets.torso import example
from thorndike.types import Array, PyTree, Step

SUMS = ("cost", "terms")  # keys of `info` that add up like rewards


@config
class TimeLimit(Wrapper):
    """Episodes are truncated after `steps`, unless the inner environment's own limit is shorter."""

    steps: int

    def check(self) -> None:
        """At least one step."""
        refuse(self)
        require(self.steps > 0, f"TimeLimit.steps must be positive, got {self.steps}")

    @property
    def max_steps(self) -> int:
        """The shorter of the two limits."""
        return min(self.steps, self.env.max_steps)


@config
class RewardScale(Wrapper):
    """Rewards times `scale`, then clipped to [-clip, clip] where `clip` is given; those of evaluations too."""

    scale: float = 1.0
    clip: Positive | None = None

    def check(self) -> None:
        """Nothing inside that clipping would break."""
        refuse(self)
        if self.clip is not None:
            refuse_shaped(self, "clips what it adds")

    def step(self, state: PyTree, action: Array, key: Array) -> Step:
        """The inner step with its reward changed."""
        step = self.env.step(state, action, key)
        reward = step.reward * self.scale
        return step._replace(reward=reward if self.clip is None else jnp.clip(reward, -self.clip, self.clip))


@config
class FrameStack(Wrapper):
    """The last `frames` observations, newest last; an episode begins with copies of its first.

    They lie on a new first axis, [frames, ...], but for images: [H, W, C] become [H, W, frames·C], and [C, H, W]
    become [frames·C, H, W].
    """

    frames: int = 4

    def check(self) -> None:
        """At least one frame, of numbers."""
        refuse(self)
        require(self.frames > 0, f"FrameStack.frames must be positive, got {self.frames}")
        space = self.env.observation_space
        require(isinstance(space, (Box, MultiBinary)), f"FrameStack needs Box or MultiBinary observations, got {space}")
        shape, stacked = space.shape, self.observation_space.shape
        if len(shape) == 3:
            same = channels_first(shape) == channels_first(stacked)
            require(same, f"FrameStack makes {shape} into {stacked}, and channels look like an edge: stack fewer")

    @property
    def observation_space(self) -> Space:
        """[frames, ...], or images of more channels."""
        space: Any = self.env.observation_space
        if isinstance(space, MultiBinary):
            return MultiBinary(self._seen(np.zeros((self.frames, *space.shape))).shape)
        low, high = (self._seen(np.repeat(bound[None], self.frames, 0)) for bound in (space.low, space.high))
        return Box(low, high, dtype=space.dtype.type)

    def reset(self, key: Array) -> Step:
        """Copies of the first observation."""
        step = self.env.reset(key)
        stack = jnp.repeat(step.obs[None], self.frames, 0)
        return step._replace(state=Wrapped(step.state, stack), obs=self._seen(stack))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The newest observation in, the oldest out."""
        step = self.env.step(state.inner, action, key)
        stack = jnp.concatenate([state.mine[1:], step.obs[None]])
        return step._replace(state=Wrapped(step.state, stack), obs=self._seen(stack))

    def _seen(self, stack: Any) -> Any:
        """[frames, ...] as it is shown."""
        if stack.ndim != 4:
            return stack
        axis = 0 if channels_first(stack.shape[1:]) else -1
        return (np if isinstance(stack, np.ndarray) else jnp).concatenate(list(stack), axis)


@config
class ActionRepeat(Wrapper):
    """Each action is taken `times` times, or until the episode ends or the action is illegal; rewards add up, and so do
    costs and terms of the reward."""

    times: int = 4

    def check(self) -> None:
        """At least once."""
        refuse(self)
        require(self.times > 0, f"ActionRepeat.times must be positive, got {self.times}")
        refuse_shaped(self, "sums what it adds without a discount")

    @property
    def max_steps(self) -> int:
        """The inner limit in these longer steps, rounded up, as if none was cut short."""
        return -(-self.env.max_steps // self.times)

    def reset(self, key: Array) -> Step:
        """No step was taken yet."""
        step = self.env.reset(key)
        return step._replace(state=Wrapped(step.state, jnp.int32(0)))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The inner steps as one."""

        def once(before: Wrapped, key: Array) -> Step:
            step = self.env.step(before.inner, action, key)
            return step._replace(
                state=Wrapped(step.state, before.mine + 1),
                reward=jnp.asarray(step.reward, jnp.float32),
                terminated=jnp.asarray(step.terminated, bool),
            )

        def again(before: Step, key: Array) -> tuple[Step, None]:
            after = once(before.state, key)
            sums = {
                name: jax.tree.map(jnp.add, before.info[name], after.info[name]) for name in SUMS if name in after.info
            }
            after = after._replace(reward=before.reward + after.reward, info={**after.info, **sums})
            over = before.terminated | (before.state.mine >= self.env.max_steps)
            over |= ~allowed(self.env.action_space, before.info, action)
            return jax.tree.map(lambda old, new: jnp.where(over, old, new), before, after), None

        key, *keys = jax.random.split(key, self.times)
        first = once(state, key)
        return jax.lax.scan(again, first, jnp.stack(keys))[0] if keys else first


@config
class StickyActions(Wrapper):
    """With `probability`, the last action is taken again in the place of the new one (Machado et al. 2018).

    Where the last action is illegal now, the new one is taken.
    """

    probability: float = 0.25

    def check(self) -> None:
        """A probability."""
        refuse(self)
        p = np.asarray(self.probability)
        require(bool(((p >= 0) & (p <= 1)).all()), f"StickyActions.probability must lie in [0, 1], got {p}")

    def reset(self, key: Array) -> Step:
        """Nothing was done yet: the first action is taken as it is."""
        step = self.env.reset(key)
        space = self.env.action_space
        last = example(space) if isinstance(space, Box) else jnp.zeros(space.shape or (), jnp.int32)
        return step._replace(state=Wrapped(step.state, (last, jnp.bool_(False))))

    def step(self, state: Wrapped, action: Array, key: Array) -> Step:
        """The new action, or the last one."""
        ckey, key = jax.random.split(key)
        last, again = state.mine
        stick = again & jax.random.bernoulli(ckey, self.probability)
        action = jnp.where(stick, last, action).astype(last.dtype)
        step = self.env.step(state.inner, action, key)
        again = allowed(self.env.action_space, step.info, action)
        return step._replace(state=Wrapped(step.state, (action, again)))
