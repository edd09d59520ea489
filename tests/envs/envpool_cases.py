"""What the tests of EnvPool share: a walk through a pool, and pools that answer otherwise."""

import jax
import numpy as np

LIMIT, COPIES = 12, 5


def walk(env, steps=60, seed=4, copies=COPIES, action=None):
    """Timesteps [T + 1, E] and actions [T, E], random ones or always `action`."""
    rng = np.random.default_rng(0)
    with env.batch(copies, seed=seed) as batch:
        now, actions = batch.reset(), []
        given, kept = [now], [jax.tree.map(np.copy, now)]
        for _ in range(steps):
            chosen = [sample(env.action_space, rng) if action is None else action for _ in range(copies)]
            actions.append(np.stack(chosen))
            given.append(batch.step(actions[-1]))
            kept.append(jax.tree.map(np.copy, given[-1]))
    jax.tree.map(np.testing.assert_array_equal, given, kept)  # no later step wrote into them
    return jax.tree.map(lambda *xs: np.stack(xs), *given), np.stack(actions)


def sample(space, rng):
    return rng.integers(space.n) if hasattr(space, "n") else rng.uniform(space.low, space.high).astype(np.float32)


def check_endings(times, limit):
    """`first` after either end and at the start, never both ends, truncated at the limit by an own count."""
    assert times.first[0].all()
    assert not times.reward[0].any()
    count = np.zeros(times.first.shape[1], int)
    for t in range(1, len(times.first)):
        count += 1
        ended = times.terminated[t] | times.truncated[t]
        assert not (times.terminated[t] & times.truncated[t]).any()
        np.testing.assert_array_equal(times.truncated[t], (count == limit) & ~times.terminated[t])
        np.testing.assert_array_equal(times.first[t], ended)
        count[ended] = 0


class Spoilt:
    """A pool whose third step answers `value` in one part, or below `key` in it, of what its last environment says."""

    def __init__(self, pool, part, value=np.inf, key=None):
        self.pool, self.part, self.value, self.key, self.steps = pool, part, value, key, 0

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def step(self, *given):
        answer = jax.tree.map(np.array, self.pool.step(*given))
        self.steps += 1
        if self.steps == 3:
            values = answer[self.part] if self.key is None else answer[self.part][self.key]
            values.reshape(len(values), -1)[-1, 0] = self.value
        return answer


class Shuffled:
    """A pool that hands its environments over in an order of its own."""

    def __init__(self, pool):
        self.pool, self.rng = pool, np.random.default_rng(1)

    def __getattr__(self, name):
        return getattr(self.pool, name)

    def mixed(self, answer):
        order = self.rng.permutation(len(answer[0]))
        return jax.tree.map(lambda x: x[order], answer)

    def reset(self, *given):
        return self.mixed(self.pool.reset(*given))

    def step(self, *given):
        return self.mixed(self.pool.step(*given))
