"""REINFORCE with a baseline, an algorithm of your own in one file.

thorndike train ./examples/reinforce.py:REINFORCE CartPole-v1
"""

from typing import Any, NamedTuple

import jax
import optax

import thorndike as td


class Params(NamedTuple):
    """What the optimiser moves: one network below a policy and a baseline."""

    torso: Any
    policy: td.PolicyHead
    baseline: td.Dense


class State(NamedTuple):
    """All that changes."""

    params: Params
    optimiser: Any


@td.config
class REINFORCE:
    """REINFORCE with a learned baseline (Williams 1992): ∇J = E[ ∇ log π(a | s) (G - V(s)) ]."""

    learning_rate: float = 3e-3  # step size of Adam
    discount: float = 0.99  # γ
    torso: td.Torso = td.Torso()  # the network below the heads
    num_envs: int = 16  # environments that are stepped side by side
    rollout_length: int = 64  # steps of each environment between two gradient steps

    def supports(self, spec: td.Spec) -> str | None:
        """Every observation and action space."""
        return None

    def init(self, key, spec: td.Spec) -> State:
        """The networks and the optimiser's state."""
        tkey, pkey, bkey = jax.random.split(key, 3)
        torso = self.torso.build(tkey, spec.observation)
        params = Params(torso, td.PolicyHead(pkey, torso.features, spec.action), td.Dense(bkey, torso.features, 1))
        return State(params, optax.adam(self.learning_rate).init(params))

    def actor(self, state: State) -> Params:
        """What acting needs, and what a saved agent holds."""
        return state.params

    def carry(self, actor: Params, n: int):
        """No memory between steps."""
        return ()

    def act(self, actor: Params, carry, now: td.Timestep, key, explore: bool):
        """Sample an action for each environment, or take the likeliest: actions [E, ...], carry, extras."""
        pi = actor.policy(actor.torso(now.obs), now.info.get("mask"))
        action = pi.sample(key) if explore else pi.mode()
        return actor.policy.actions.to_environment(action), carry, {}

    def learn(self, state: State, rollout: td.Rollout, key):
        """One gradient step on a rollout [T, E, ...]: the new state and metrics."""
        steps = rollout.steps

        def loss(params: Params):
            value = lambda obs: params.baseline(params.torso(obs))[..., 0]  # noqa: E731
            baseline, after = value(steps.obs), jax.lax.stop_gradient(value(steps.next_obs))
            ends = (steps.terminated, steps.ended)  # returns that the rollout cuts off go on with the baseline
            advantage = td.gae(steps.reward, jax.lax.stop_gradient(baseline), after, *ends, self.discount, 1.0)
            pi = params.policy(params.torso(steps.obs), steps.info.get("mask"))
            log_prob = pi.log_prob(params.policy.actions.from_environment(steps.action))
            scale = advantage.std() + 1e-6
            policy_loss = -(log_prob * advantage / scale).mean()
            baseline_loss = (((advantage + jax.lax.stop_gradient(baseline) - baseline) / scale) ** 2).mean()
            return policy_loss + 0.5 * baseline_loss, {"entropy": pi.entropy().mean()}

        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimiser = optax.adam(self.learning_rate).update(gradient, state.optimiser)
        params = optax.apply_updates(state.params, updates)
        return State(params, optimiser), {"loss": value, "gradient_norm": optax.tree.norm(gradient), **metrics}
