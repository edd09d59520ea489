"""Your own environment and your own algorithm. `make notebooks` writes the notebook with its outputs."""

# %% [markdown]
# # Your own environment and algorithm
#
# Both are one class each. This notebook writes an environment in JAX, a policy gradient in some sixty lines, and a
# variant of it, and compares them with PPO. It takes about half a minute on two cores.

# %%
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gymnasium.spaces import Box, Discrete

import thorndike as td

# %% [markdown]
# ## An environment
#
# A drone has to hover one metre above the ground, in gusts, and its engine is on or off. `reset` and `step` are of a
# single environment. Batches, time limits and the reset after an episode are not its business. The state may be any
# arrays, and all that is random is drawn with the key.


# %%
@td.config
class Hover:
    """Stay one metre above the ground."""

    gravity: float = 1.0  # floats may be changed, or swept, without another compilation
    thrust: float = 2.0  # the engine's acceleration
    gusts: float = 0.5  # the standard deviation of the wind's
    max_steps: int = 200  # the time limit

    observation_space = property(lambda self: Box(-10.0, 10.0, (2,), np.float32))
    action_space = property(lambda self: Discrete(2))

    def reset(self, key) -> td.Step:
        """At rest, somewhere near that height."""
        height = jax.random.uniform(key, minval=0.5, maxval=1.5)
        state = jnp.stack([height, 0.0])
        return td.Step(state, state)

    def step(self, state, action, key) -> td.Step:
        """A tenth of a second; the ground, and two metres of height, end the episode."""
        height, speed = state
        wind = self.gusts * jax.random.normal(key)
        speed = speed + 0.1 * (self.thrust * action - self.gravity + wind)
        height = height + 0.1 * speed
        state = jnp.stack([height, speed])
        out = (height < 0) | (height > 2)
        return td.Step(state, state, reward=1.0 - jnp.abs(height - 1.0), terminated=out)


# %% [markdown]
# `check` tries it out: shapes and types, the same key twice, a few hundred random steps.

# %%
td.check(Hover)

# %% [markdown]
# It has no preset, so PPO takes its defaults. The best possible return is a little below 200.

# %%
ppo = td.train("ppo", Hover(), 100_000, seeds=4, name="ppo")
ppo.evaluate(episodes=50)

# %% [markdown]
# `Hover(gravity=1.5)` is another world, in which the engine lifts half as strongly. How do the agents do there?

# %%
ppo.evaluate(episodes=50, env=Hover(gravity=1.5))

# %% [markdown]
# ## An algorithm
#
# An algorithm is a class whose fields are its hyperparameters. It keeps nothing: what changes is in the state that its
# methods take and return. Training calls `act` for each step of `num_envs` environments, and `learn` with every rollout
# of `rollout_length` steps. All arrays of `rollout.steps` have the leading axes `[T, E]`, time and environments.
#
# This one is REINFORCE (Williams 1992), ∇J = E[ ∇ log π(a | s) (G - b) ], where G is the discounted sum of the rewards
# that followed, and the baseline b is the mean of G over the rollout.


# %%
class State(NamedTuple):
    """All that changes."""

    params: Any
    optimiser: Any


class Policy(NamedTuple):
    """From an observation to a distribution over actions."""

    torso: Any
    head: td.PolicyHead


@td.config
class Plain:
    """REINFORCE with the mean return as its baseline."""

    learning_rate: float = 3e-3  # step size of Adam
    discount: float = 0.99  # γ
    torso: td.Torso = td.Torso()  # the network below the policy
    num_envs: int = 32  # environments that are stepped side by side
    rollout_length: int = 64  # steps of each between two gradient steps

    def supports(self, spec: td.Spec) -> str | None:
        return None  # every observation and action space

    def init(self, key, spec: td.Spec) -> State:
        torso_key, head_key = jax.random.split(key)
        torso = self.torso.build(torso_key, spec.observation)
        params = Policy(torso, td.PolicyHead(head_key, torso.features, spec.action))
        return State(params, optax.adam(self.learning_rate).init(params))

    def actor(self, state: State) -> Policy:
        return state.params  # what acting needs, and what a saved agent holds

    def carry(self, actor: Policy, n: int):
        return ()  # no memory between steps

    def act(self, actor: Policy, carry, now: td.Timestep, key, explore: bool):
        pi = actor.head(actor.torso(now.obs), now.info.get("mask"))
        action = pi.sample(key) if explore else pi.mode()
        return actor.head.actions.to_environment(action), carry, {}

    def advantage(self, rollout: td.Rollout):
        steps = rollout.steps

        def back(later, now):  # G = r + γ G', and nothing follows the end of an episode
            reward, ended = now
            total = reward + self.discount * jnp.where(ended, 0.0, later)
            return total, total

        _, returns = jax.lax.scan(back, jnp.zeros(self.num_envs), (steps.reward, steps.ended), reverse=True)
        return (returns - returns.mean()) / (returns.std() + 1e-6)

    def learn(self, state: State, rollout: td.Rollout, key):
        steps, advantage = rollout.steps, self.advantage(rollout)

        def loss(params: Policy):
            pi = params.head(params.torso(steps.obs), steps.info.get("mask"))
            log_prob = pi.log_prob(params.head.actions.from_environment(steps.action))
            return -(log_prob * advantage).mean(), pi.entropy().mean()

        (value, entropy), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimiser = optax.adam(self.learning_rate).update(gradient, state.optimiser)
        return State(optax.apply_updates(state.params, updates), optimiser), {"loss": value, "entropy": entropy}


# %% [markdown]
# `check` runs it on small problems: whether shapes and types stay, whether the same seed gives the same result, whether
# it learns at all, and whether a NaN would be seen.

# %%
td.check(Plain)

# %%
plain = td.train(Plain(), Hover(), 100_000, seeds=4, name="plain")

# %% [markdown]
# ## A variant
#
# A variant is a subclass with the method that differs. This one takes what followed less the mean over the 32
# environments at the same time step, so that late steps are not compared with early ones.


# %%
@td.config
class ByTime(Plain):
    """REINFORCE whose baseline is the mean over environments at each time step."""

    def advantage(self, rollout: td.Rollout):
        returns = Plain.advantage(self, rollout)
        return returns - returns.mean(1, keepdims=True)


by_time = td.train(ByTime(), Hover(), 100_000, seeds=4, name="by-time")
td.plot([ppo, plain, by_time], smooth=5, labels=("PPO", "REINFORCE", "baseline by time"))

# %%
td.compare(plain, by_time, labels=("REINFORCE", "baseline by time"))

# %% [markdown]
# In a file of its own such a class works from the shell too: `thorndike train ./mine.py:Plain CartPole-v1`. The page
# "Environments and algorithms" has the rest: replay, memory, masks, networks and noise to build with.
