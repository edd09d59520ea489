"""Option-critic: both gradients are those of the return, by dynamic programming; and how options begin and end."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import thorndike as td
from thorndike.types import Timestep, Transition

S, N, A, GAMMA = 5, 2, 3, 0.9
rng = np.random.default_rng(0)
P = rng.dirichlet(np.ones(S), (S, A))  # [S, A, S']
R = rng.normal(size=(S, A))
END = np.arange(S) == 4
START = rng.dirichlet(np.ones(S * N)).reshape(S, N) * ~END[:, None]
THETA, VARTHETA = 3.0 * rng.normal(size=(S, N, A)), rng.normal(size=(S, N))
TABLE = td.OptionCritic(
    options=N, discount=GAMMA, torso=td.Torso(widths=()), entropy_coefficient=0.0, optimiser=td.SGD()
)
SPEC = td.Spec(Discrete(S), Discrete(A), 100)


def values(theta, vartheta, cost, greedy=None):
    """Q_Ω [S, N] in float64: a linear solve, the option that follows another being `greedy` [S]; by default the best
    one, which a few rounds of improvement find."""
    pi = np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)
    beta = 1 / (1 + np.exp(-vartheta))
    best, improving = np.zeros(S, int) if greedy is None else greedy, greedy is None
    for _ in range(20):
        # Q(s, ω) = Σ_a π R + γ Σ_s' P(s' | s, ω) [ (1 - β) Q(s', ω) + β (Q(s', best) - cost) ]
        move = np.einsum("sna,sat->snt", pi, P) * ~END
        there = np.zeros((S, N, S, N))  # from (s, ω) to (s', ω')
        for s, n, t in itertools.product(range(S), range(N), range(S)):
            there[s, n, t, n] += move[s, n, t] * (1 - beta[t, n])
            there[s, n, t, best[t]] += move[s, n, t] * beta[t, n]
        paid = np.einsum("sna,sa->sn", pi, R) - GAMMA * cost * np.einsum("snt,tn->sn", move, beta)
        matrix = np.eye(S * N) - GAMMA * there.reshape(S * N, S * N)
        q = np.linalg.solve(matrix, paid.ravel()).reshape(S, N)
        if not improving or (q.argmax(1) == best).all():
            break
        best = q.argmax(1)
    # how often each pair is met, discounted, from START
    met = np.linalg.solve(matrix.T, START.ravel()).reshape(S, N)
    return q, met, best


def central_differences(cost, step=1e-6):
    best = values(THETA, VARTHETA, cost)[2]
    total = lambda theta, vartheta: (START * values(theta, vartheta, cost, best)[0]).sum()  # noqa: E731
    found = []
    for which, table in enumerate((THETA, VARTHETA)):
        gradient = np.zeros(table.shape)
        for index in np.ndindex(table.shape):
            moved = np.zeros(table.shape)
            moved[index] = step
            ends = [total(*(x + sign * moved if i == which else x for i, x in enumerate((THETA, VARTHETA))))
                    for sign in (1, -1)]  # fmt: skip
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


def gradients(cost=0.0):
    """∇J of both tables, by the algorithm's loss: over all (s, ω, a, s'), each as often as it happens."""
    algorithm = dataclasses.replace(TABLE, deliberation_cost=cost)
    q, met, _ = values(THETA, VARTHETA, cost)
    grid = np.stack(np.meshgrid(*map(range, (S, N, A, S)), indexing="ij"), -1).reshape(-1, 4)
    grid = grid[~END[grid[:, 0]]]
    s, n, a, t = grid.T
    pi = np.exp(THETA) / np.exp(THETA).sum(-1, keepdims=True)
    weight = met[s, n] * pi[s, n, a] * P[s, a, t]
    options = algorithm.init(jax.random.key(0), SPEC).options
    tables = (jnp.float32(q * ~END[:, None]), jnp.float32(THETA), jnp.float32(VARTHETA))
    options = jax.tree.unflatten(jax.tree.structure(options), tables)
    assert (options.terminations.shape, options.policies.shape) == ((S, N), (S, N, A))
    steps = Transition(
        s, s < 0, a, {"option": n, "kept": s < 0}, R[s, a].astype(np.float32), END[t], s < 0, t, {}
    )  # fmt: skip

    def total(options):
        losses = jax.vmap(lambda step: algorithm.loss(options, step)[0])(jax.tree.map(jnp.asarray, steps))
        return (jnp.float32(weight) * losses).sum()

    gradient = jax.jit(jax.grad(total))(options)
    # the sum above counts the steps that lead to s'; the return counts what follows, a step later
    return -np.asarray(gradient.policies), -GAMMA * np.asarray(gradient.terminations)


def error(cost=0.0):
    """How far each gradient is from its central differences, as a share of the largest."""
    return [np.abs(x - y).max() / np.abs(y).max() for x, y in zip(gradients(cost), central_differences(cost))]


@pytest.mark.parametrize("cost", [0.0, 0.3])
def test_both_gradients_are_those_of_the_return(cost):
    assert max(error(cost)) < 1e-3


OptionCritic = td.OptionCritic


def sign(monkeypatch):
    monkeypatch.setattr(OptionCritic, "termination_objective", lambda self, beta, advantage: beta * advantage)


def state_of_departure(monkeypatch):
    beta = OptionCritic.beta
    monkeypatch.setattr(OptionCritic, "beta", lambda self, o, steps: beta(self, o, steps._replace(next_obs=steps.obs)))


def never_goes_on(monkeypatch):
    monkeypatch.setattr(OptionCritic, "upon_arrival", lambda self, q, beta, best: best - self.deliberation_cost)


def never_ends(monkeypatch):
    monkeypatch.setattr(OptionCritic, "upon_arrival", lambda self, q, beta, best: q)


def no_discount(monkeypatch):
    from thorndike.algorithms.hierarchical import option_critic

    right = option_critic.td_target
    monkeypatch.setattr(option_critic, "td_target", lambda r, v, end, discount: right(r, v, end, 1.0))


def free_ends(monkeypatch):
    monkeypatch.setattr(OptionCritic, "upon_arrival", lambda self, q, beta, best: (1 - beta) * q + beta * best)


@pytest.mark.parametrize(
    ("bug", "which", "cost"),
    [(sign, 1, 0.0), (state_of_departure, 1, 0.0), (never_goes_on, 0, 0.0), (never_ends, 0, 0.0), (no_discount, 0, 0.0),
     (free_ends, 0, 0.3)],
)  # fmt: skip
def test_bugs_miss_them(bug, which, cost, monkeypatch):
    bug(monkeypatch)
    assert error(cost)[which] > 0.02


def test_values_are_a_fixed_point():
    """With Q_Ω of the linear solve no value moves on average."""
    q, _, _ = values(THETA, VARTHETA, 0.2)
    pi, beta = np.exp(THETA) / np.exp(THETA).sum(-1, keepdims=True), 1 / (1 + np.exp(-VARTHETA))
    later = np.asarray(dataclasses.replace(TABLE, deliberation_cost=0.2).upon_arrival(q, beta, q.max(1)[:, None]))
    target = R[:, :, None] + GAMMA * np.einsum("sat,tn->san", P * ~END, later)
    np.testing.assert_allclose(np.einsum("sna,san->sn", pi, target)[~END], q[~END], atol=1e-9)


def now(obs, first):
    n = len(obs)
    no, zero = jnp.zeros(n, bool), jnp.zeros(n)
    return Timestep(jnp.asarray(obs), zero, no, no, jnp.asarray(obs), jnp.full(n, first), {})


def acted(first, terminations, explore=True, n=4000):
    """The options [n] that follow option 1 in state 0, where option 0 is the best."""
    actor = TABLE.actor(TABLE.init(jax.random.key(0), SPEC))
    q, beta = jnp.zeros((S, N)).at[:, 0].set(1.0), jnp.full((S, N), terminations)
    options = jax.tree.unflatten(jax.tree.structure(actor.options), (q, jnp.float32(THETA), beta))
    actor = actor._replace(options=options, level=jnp.float32(0))
    return TABLE.act(actor, jnp.ones(n, jnp.int32), now(np.zeros(n, int), first), jax.random.key(1), explore)


@pytest.mark.parametrize("logit", [-1.0, 2.0])
def test_options_end_as_often_as_they_say_and_at_every_start(logit):
    _, option, extras = acted(False, logit)
    ended = 1 / (1 + np.exp(-logit))
    assert abs((option == 0).mean() - ended) < 4 * np.sqrt(0.25 / 4000)
    np.testing.assert_array_equal(extras["option"], option)
    np.testing.assert_array_equal(extras["kept"], option == 1)
    assert (acted(True, -1e3)[1] == 0).all()  # not even one that never ends outlives its episode
    assert (acted(False, logit, explore=False)[1] == (0 if logit > 0 else 1)).all()


def test_a_truncated_step_is_worth_what_its_option_is_there():
    """Both ends, and the option of the bootstrap: not the best one, unless it ends."""
    q = jnp.zeros((S, N)).at[1].set(jnp.array([5.0, 2.0]))
    options = TABLE.init(jax.random.key(0), SPEC).options
    never = jnp.full((S, N), -50.0)
    options = jax.tree.unflatten(jax.tree.structure(options), (q, jnp.float32(THETA), never))
    yes, no, one = jnp.ones((1,), bool), jnp.zeros((1,), bool), jnp.ones((1,), jnp.int32)
    error = lambda *ends: TABLE.loss(  # noqa: E731
        options, Transition(0 * one, no, one, {"option": one, "kept": no}, jnp.ones(1), *ends, one, {})
    )[1]["td_error"]
    assert float(error(no, yes)) == pytest.approx(1 + GAMMA * 2)
    assert float(error(yes, no)) == pytest.approx(1)


def test_what_it_cannot_serve_is_said():
    assert "Discrete" in td.OptionCritic().supports(td.Spec(Box(-1, 1, (2,)), Box(-1, 1, (2,)), 1))
