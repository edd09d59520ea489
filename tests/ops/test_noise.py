"""Action noise against its spectrum and its autocovariance in closed form, and where episodes begin."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.ops.noise import Gaussian, OrnsteinUhlenbeck, Pink
from thorndike.schedules import Linear

ALL = [Gaussian(), OrnsteinUhlenbeck(), Pink()]


@partial(jax.jit, static_argnames=("n", "steps", "dimensions"))
def path(noise, n, steps, dimensions=1, again=()):
    """Noise [steps, n, D]; all episodes begin at 0, and that of environment 0 in the steps `again` too."""
    first = jnp.zeros((steps, n), bool).at[0].set(True)
    for t in again:
        first = first.at[t, 0].set(True)

    def step(carry, x):
        key, first = x
        noises, carry = noise.draw(key, carry, first, dimensions)
        return carry, noises

    keys = jax.random.split(jax.random.key(0), steps)
    return jax.lax.scan(step, noise.carry(n, dimensions), (keys, first))[1]


def slope(x):
    """How power depends on frequency: the exponent, by least squares; x [T, N]."""
    frequency, power = scipy.signal.periodogram(x, axis=0)
    within = (frequency > 4 / len(x)) & (frequency < 0.2)
    return np.polyfit(np.log(frequency[within]), np.log(power.mean(1)[within]), 1)[0]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [(Gaussian(), 0.0), (Pink(), -1.0), (OrnsteinUhlenbeck(theta=0.001), -2.0)],
    ids=["white", "pink", "brown"],
)
def test_the_colour_of_noise(noise, expected):
    x = np.asarray(path(noise, 300, 1000))[..., 0]
    assert slope(x) == pytest.approx(expected, abs=0.15)


def test_pink_noise_of_one_scale_has_another_colour():
    """So the test above tells them apart."""
    for scales in ((1,), (256,)):
        assert abs(slope(np.asarray(path(Pink(scales=scales), 300, 1000))[..., 0]) + 1) > 0.3


def autocovariance(noise, lag):
    """E[x_t x_{t + lag}] long after the beginning."""
    if isinstance(noise, OrnsteinUhlenbeck):
        keep = 1 - noise.theta * noise.dt
        return noise.sigma**2 * noise.dt / (1 - keep**2) * keep**lag
    if isinstance(noise, Pink):
        return noise.std**2 * np.mean(np.exp(-lag / np.array(noise.scales)))
    return noise.std**2 * (lag == 0)


@pytest.mark.parametrize("noise", [*ALL, OrnsteinUhlenbeck(theta=0.5, sigma=0.4, dt=0.3)])
def test_the_autocovariance(noise):
    x = np.asarray(path(noise, 20_000, 60))[..., 0]
    for lag in (0, 1, 5, 20):
        found = (x[-1] * x[-1 - lag]).mean()
        assert found == pytest.approx(autocovariance(noise, lag), abs=0.04 * autocovariance(noise, 0)), lag


def test_the_standard_deviation_of_an_ornstein_uhlenbeck_process_is_as_its_docstring_says():
    noise = OrnsteinUhlenbeck(theta=0.3, sigma=0.5, dt=0.5)
    expected = noise.sigma / np.sqrt(2 * noise.theta - noise.theta**2 * noise.dt)
    assert np.sqrt(autocovariance(noise, 0)) == pytest.approx(expected)


def test_an_episode_of_brown_noise_begins_at_zero_and_one_of_pink_noise_anywhere():
    """The first draw's standard deviation: σ √Δt, and the stationary one."""
    first = {type(noise): np.asarray(path(noise, 20_000, 1)).std() for noise in ALL}
    assert first[OrnsteinUhlenbeck] == pytest.approx(0.2, rel=0.03)
    assert first[Pink] == pytest.approx(0.3, rel=0.03)
    assert first[Gaussian] == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("noise", ALL[1:])
def test_noise_begins_anew_with_an_episode(noise):
    """What came before has no say; the environments beside it go on as they were."""
    with_seam, without = np.asarray(path(noise, 2, 50, again=(30,))), np.asarray(path(noise, 2, 50))
    np.testing.assert_array_equal(with_seam[:, 1], without[:, 1])
    np.testing.assert_array_equal(with_seam[:30], without[:30])
    assert (with_seam[30:, 0] != without[30:, 0]).all()

    def after(carry):
        """The noise of the step that begins an episode, from some memory."""
        return noise.draw(jax.random.key(1), carry, jnp.ones(2, bool), 1)[0]

    blank = noise.carry(2, 1)
    np.testing.assert_array_equal(after(blank), after(blank + 7.0))


@pytest.mark.parametrize("noise", ALL)
def test_dimensions_and_environments_have_noise_of_their_own(noise):
    x = np.asarray(path(noise, 3, 2000, dimensions=2)).reshape(2000, 6)
    fresh = np.diff(x, axis=0)
    assert np.abs(np.corrcoef(fresh.T) - np.eye(6)).max() < 0.15


def test_bad_noise_is_refused():
    check(OrnsteinUhlenbeck(theta=Linear(0.3, 0.1)))
    for bad in (
        OrnsteinUhlenbeck(theta=2.0),
        OrnsteinUhlenbeck(theta=Linear(3.0)),
        Pink(scales=()),
        Pink(scales=(4, 0)),
        Gaussian(std=-1.0),
    ):
        with pytest.raises(ConfigError):
            check(bad)
