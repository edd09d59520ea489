"""Numbers as distributions over bins: means against NumPy, both scales there and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thorndike.configuration import check
from thorndike.errors import ConfigError
from thorndike.ops.twohot import Bins, symexp, symlog, two_hot

SCALES = {
    "linear": Bins(low=-300.0, high=300.0, count=101, scale="linear"),
    "symexp": Bins(low=-6.0, high=6.0, count=49),
    "squashed": Bins(low=-20.0, high=20.0, count=41, scale="squashed"),
}
NUMBERS = jnp.asarray([-299.0, -17.3, -1.0, -0.01, 0.0, 0.02, 0.5, 3.0, 42.0, 280.0])


def test_symlog_and_its_inverse():
    np.testing.assert_allclose(symlog(NUMBERS), np.sign(NUMBERS) * np.log1p(np.abs(NUMBERS)), rtol=1e-6)
    np.testing.assert_allclose(symexp(symlog(NUMBERS)), NUMBERS, rtol=1e-5, atol=1e-6)


def test_two_hot_by_interpolation():
    """Each atom's weight is what linear interpolation gives a function that is 1 there and 0 at the others."""
    atoms = np.array([-2.0, -0.5, 0.0, 1.0, 4.0])
    x = np.array([-3.0, -2.0, -1.1, 0.0, 0.3, 1.0, 3.9, 4.0, 9.0])
    expected = np.stack([np.interp(x, atoms, row) for row in np.eye(5)], -1)
    np.testing.assert_allclose(two_hot(jnp.asarray(x), jnp.asarray(atoms)), expected, atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_there_and_back(scale):
    bins = SCALES[scale]
    weights = np.asarray(bins.encode(NUMBERS))
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)
    assert ((weights > 0).sum(-1) <= 2).all()
    np.testing.assert_allclose(bins.decode(jnp.log(weights + 1e-30)), NUMBERS, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_nothing_known_is_zero(scale):
    assert float(SCALES[scale].decode(jnp.zeros(SCALES[scale].count))) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_the_loss_is_least_at_the_number(scale):
    """The gradient in the logits is softmax - two-hot, and none goes to the target."""
    bins, logits = SCALES[scale], jax.random.normal(jax.random.key(0), (SCALES[scale].count,))
    gradient = jax.grad(lambda logits, x: bins.loss(logits, x), argnums=(0, 1))(logits, 2.5)
    np.testing.assert_allclose(gradient[0], jax.nn.softmax(logits) - bins.encode(jnp.float32(2.5)), atol=1e-6)
    assert gradient[1] == 0


def test_bins_in_order():
    with pytest.raises(ConfigError, match="low < high"):
        check(Bins(low=1.0, high=0.0))
    check(Bins(low=np.array([-1.0, -2.0]), high=0.0))  # a sweep
    with pytest.raises(ConfigError, match="low < high"):
        check(Bins(low=np.array([-1.0, 2.0]), high=0.0))
