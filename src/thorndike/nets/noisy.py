"""Linear layers whose noise is learned (Fortunato et al. 2018)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from thorndike.nets.mlp import uniform
from thorndike.types import Array


class NoisyLinear(eqx.Module):
    """y = (μ_w + σ_w ⊙ ε_in ε_outᵀ) x + μ_b + σ_b ⊙ ε_out, with factorised noise (eq. 10 and 11).

    ε = f(N(0, 1)), f(x) = sign(x) √|x|. One draw serves all rows of a call; where each is to have its own, map the call
    over keys. Without a key there is no noise: y = μ_w x + μ_b.
    """

    weight: Array  # μ_w [in, out]
    bias: Array  # μ_b [out]
    weight_scale: Array  # σ_w [in, out]
    bias_scale: Array  # σ_b [out]

    def __init__(self, key: Array, inputs: int, outputs: int, scale: Array | float = 0.5):
        """μ ~ U(-1/√inputs, 1/√inputs); σ = scale / √inputs."""
        wkey, bkey = jax.random.split(key)
        self.weight = uniform(wkey, (inputs, outputs))
        self.bias = uniform(bkey, (inputs, outputs))[0]
        self.weight_scale = jnp.full((inputs, outputs), scale / inputs**0.5)
        self.bias_scale = jnp.full(outputs, scale / inputs**0.5)

    def __call__(self, x: Array, key: Array | None = None) -> Array:
        rows = x.reshape(-1, x.shape[-1])
        y = rows @ self.weight + self.bias
        if key is not None:
            before, after = factors(key, *self.weight.shape)
            y = y + ((rows * before) @ self.weight_scale + self.bias_scale) * after
        return y.reshape(*x.shape[:-1], -1)


def factors(key: Array, inputs: int, outputs: int) -> tuple[Array, Array]:
    """ε_in [in] and ε_out [out]."""
    noise = jax.random.normal(key, (inputs + outputs,))
    noise = jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))
    return noise[:inputs], noise[inputs:]
