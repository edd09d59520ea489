"""A stirred tank in which an exothermic reaction is held where it would run away by itself."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box

from thorndike.configuration import config, require
from thorndike.domains import NonNegative, Positive
from thorndike.envs.draw import Canvas
from thorndike.types import Array, Step

COOLANT = (280.0, 320.0)  # K, the coldest and the warmest
SETPOINTS = (0.4, 0.6)  # mol/L; the steady states there are unstable
FEED = 350.0  # K, the mean temperature of the feed
MEMORY = 5.0  # min, over which the feed's temperature forgets
MOST = 1.0  # mol min/L, where the integral of the error stops
SUBSTEPS = 10  # of the integration, in a step


class ReactorState(NamedTuple):
    """What is in the tank, what flows in, and what is wanted."""

    concentration: Array  # c, mol/L
    temperature: Array  # T, K
    coolant: Array  # T_c of the last step, K
    feed: Array  # T_f, K
    setpoint: Array  # r, mol/L
    following: Array  # the setpoint after it, mol/L
    due: Array  # min until then
    integral: Array  # ∫ (r - c) dt, mol min/L


CENTRE = ReactorState(0.5, 350.0, 300.0, FEED, 0.5, 0.5, 0.0, 0.0)  # type: ignore[arg-type]
SCALE = ReactorState(0.25, 25.0, 20.0, 10.0, 0.25, 0.25, 5.0, 0.25)  # type: ignore[arg-type]


@config
class Reactor:
    """Choose the coolant's temperature, so that the concentration in the tank follows its setpoint.

    ċ = q/V (c_f - c) - k c,   k = k₀ exp(-E/(R T))
    Ṫ = q/V (T_f - T) - ΔH/(ρ c_p) k c + UA/(V ρ c_p) (T_c - T)

    The numbers are those of Henson & Seborg (1997, chapter 1; Seborg et al. 2011, example 2.5). The setpoints lie where
    the reaction needs control: left alone, the tank goes cold, or ignites. Every `hold` minutes the next setpoint takes
    over, which was announced, and another is drawn; meanwhile the temperature of the feed drifts.

    The reward is -((c - r) / 0.1 mol/L)² - w ((change of T_c) / 10 K)², and a step that ends hotter than `limit` has a
    cost of 1. Episodes begin in the steady state of another setpoint, and never terminate.
    """

    flow: Positive = 100.0  # q, L/min
    volume: Positive = 100.0  # V, L
    feed: Positive = 1.0  # c_f, mol/L
    frequency: Positive = 7.2e10  # k₀, 1/min
    activation: Positive = 8750.0  # E/R, K
    enthalpy: float = -5e4  # ΔH, J/mol; below 0 the reaction heats
    capacity: Positive = 239.0  # ρ c_p, J/(L K)
    transfer: Positive = 5e4  # UA, J/(min K)
    drift: NonNegative = 3.0  # standard deviation of the feed's temperature, K
    hold: Positive = 5.0  # min, how long a setpoint holds
    limit: Positive = 365.0  # K, the temperature above which a step has a cost
    move_cost: NonNegative = 0.05  # w
    dt: Positive = 0.1  # min, a step
    max_steps: int = 200

    def check(self) -> None:
        """Setpoints that hold for a step at least."""
        require(bool(np.all(np.asarray(self.hold) >= np.asarray(self.dt))), "Reactor.hold must be dt at least")

    @property
    def render_fps(self) -> int:
        """Steps a second in films."""
        return 15

    @property
    def observation_space(self) -> Box:
        """The state, less its centre, over its scale: numbers near 1."""
        return Box(-np.inf, np.inf, (len(CENTRE),), np.float32)

    @property
    def action_space(self) -> Box:
        """The temperature of the coolant, K."""
        return Box(*COOLANT, (1,), np.float32)

    def reset(self, key: Array) -> Step:
        """The steady state of a setpoint, and three setpoints drawn for it and for what comes."""
        here, setpoint, following = jax.random.uniform(key, (3,), minval=SETPOINTS[0], maxval=SETPOINTS[1])
        temperature, coolant = self.steady(here)
        coolant = jnp.clip(coolant, *COOLANT)
        zero = jnp.float32(0)
        state = ReactorState(here, temperature, coolant, FEED + zero, setpoint, following, self.hold + zero, zero)
        return Step(state, _observe(state))

    def step(self, state: ReactorState, action: Array, key: Array) -> Step:
        """A minute times dt, with the coolant and the feed as they are; then the feed and what is wanted move on."""
        fkey, skey = jax.random.split(key)
        coolant = jnp.clip(action[0], *COOLANT)
        c, temperature = self.advanced(state.concentration, state.temperature, coolant, state.feed)
        error = state.setpoint - c
        kept = jnp.exp(-self.dt / MEMORY)
        noise = self.drift * jnp.sqrt(1 - kept**2) * jax.random.normal(fkey)
        due = state.due - self.dt
        over = due < self.dt / 2
        drawn = jax.random.uniform(skey, minval=SETPOINTS[0], maxval=SETPOINTS[1])
        after = ReactorState(
            c,
            temperature,
            coolant,
            FEED + kept * (state.feed - FEED) + noise,
            jnp.where(over, state.following, state.setpoint),
            jnp.where(over, drawn, state.following),
            jnp.where(over, self.hold, due),
            jnp.clip(state.integral + self.dt * error, -MOST, MOST),
        )
        reward = -((error / 0.1) ** 2) - self.move_cost * ((coolant - state.coolant) / 10.0) ** 2
        cost = jnp.float32(temperature > self.limit)
        return Step(after, _observe(after), reward, jnp.asarray(False), {"cost": cost})

    def advanced(self, c: Array, temperature: Array, coolant: Array, feed: Array) -> tuple[Array, Array]:
        """c and T one step later, by Strang's splitting (1968) into flow, which is linear, and reaction.

        In the reaction alone T - ΔH/(ρ c_p) c stays, and ln c is integrated (Runge & Kutta's method of order 4). So no
        concentration is ever negative, and no temperature without bound, however fast the reaction ignites.
        """
        h = self.dt / SUBSTEPS
        inflow, cooling = self.flow / self.volume, self.transfer / (self.volume * self.capacity)
        rise = -self.enthalpy / self.capacity
        rest = (inflow * feed + cooling * coolant) / (inflow + cooling)  # where T would go without a reaction

        def flows(c: Array, t: Array, h: Array | float) -> tuple[Array, Array]:
            return (
                self.feed + (c - self.feed) * jnp.exp(-inflow * h),
                rest + (t - rest) * jnp.exp(-(inflow + cooling) * h),
            )

        def reacts(c: Array, t: Array) -> tuple[Array, Array]:
            slope = lambda x: -self.rate(t + rise * c * (1 - jnp.exp(x)))  # noqa: E731  # of x = ln c less what it was
            k1 = slope(jnp.float32(0))
            k2 = slope(h / 2 * k1)
            k3 = slope(h / 2 * k2)
            k4 = slope(h * k3)
            left = jnp.exp(h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
            return c * left, t + rise * c * (1 - left)

        c, temperature = flows(c, temperature, h / 2)
        for _ in range(SUBSTEPS - 1):
            c, temperature = flows(*reacts(c, temperature), h)
        return flows(*reacts(c, temperature), h / 2)

    def rate(self, temperature: Array) -> Array:
        """k, 1/min."""
        return self.frequency * jnp.exp(-self.activation / temperature)

    def steady(self, concentration: Array) -> tuple[Array, Array]:
        """The temperatures of tank and coolant, K, at which a concentration stays, with the feed at its mean."""
        flow = self.flow * (self.feed - concentration)  # what reacts, mol/min
        rate = flow / (self.volume * concentration)
        temperature = self.activation / jnp.log(self.frequency / rate)
        heat = self.flow * self.capacity * (temperature - FEED) + self.enthalpy * flow
        return temperature, temperature + heat / self.transfer

    def state_of(self, obs: Array) -> ReactorState:
        """The state that an observation [8] shows."""
        return ReactorState(*(x * scale + centre for x, scale, centre in zip(obs, SCALE, CENTRE)))

    def render(self, state: ReactorState) -> np.ndarray:
        """One frame, uint8 [height, width, 3]: the tank, as hot as it is red, and bars of c with r, and of T."""
        canvas = Canvas(x=(0.0, 6.0), y=(0.0, 4.0))
        c, temperature, coolant, _, setpoint, *_ = (float(x) for x in state)
        canvas.polygon([(0.4, 0.4), (3.0, 0.4), (3.0, 3.4), (0.4, 3.4)], _colour(coolant, *COOLANT))
        canvas.polygon([(0.7, 0.7), (2.7, 0.7), (2.7, 3.1), (0.7, 3.1)], _colour(temperature, 330.0, self.limit))
        canvas.text((1.7, 2.0), f"{temperature:.0f} K", size=0.4)
        canvas.text((1.7, 0.2), f"coolant {coolant:.0f} K", size=0.25)
        for x, name, part, mark in (
            (3.8, "c", c / float(self.feed), setpoint / float(self.feed)),
            (5.0, "T", (temperature - 300.0) / 100.0, (float(self.limit) - 300.0) / 100.0),
        ):
            height = 2.7 * min(max(part, 0.0), 1.0)
            canvas.polygon([(x, 0.7), (x + 0.5, 0.7), (x + 0.5, 3.4), (x, 3.4)], "#eef1f5")
            canvas.polygon([(x, 0.7), (x + 0.5, 0.7), (x + 0.5, 0.7 + height), (x, 0.7 + height)], "#2b3a55")
            canvas.line((x - 0.15, 0.7 + 2.7 * mark), (x + 0.65, 0.7 + 2.7 * mark), "#d9822b", 0.06)
            canvas.text((x + 0.25, 0.35), name, size=0.3)
        return canvas.frame()


def _observe(state: ReactorState) -> Array:
    return jnp.stack([(x - centre) / scale for x, scale, centre in zip(state, SCALE, CENTRE)])


def _colour(temperature: float, cold: float, hot: float) -> str:
    """From blue to red."""
    part = min(max((temperature - cold) / (hot - cold), 0.0), 1.0)
    return f"#{round(120 + 120 * part):02x}{round(150 - 40 * part):02x}{round(220 - 130 * part):02x}"
