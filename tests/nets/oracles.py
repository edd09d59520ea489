"""Networks once more, in NumPy and SciPy and in double precision."""

from __future__ import annotations

import jax
import numpy as np
from scipy.signal import correlate

from thorndike.nets.cnn import Plain
from thorndike.nets.mlp import MLP


def mlp_in_numpy(mlp: MLP, x: np.ndarray) -> np.ndarray:
    """The layers, with activations from their definitions."""
    f = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        "gelu": lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "silu": lambda x: x / (1 + np.exp(-x)),
    }[mlp.activation]
    for i, layer in enumerate(mlp.layers):
        x = np.asarray(x, float) @ np.asarray(layer.weight, float) + np.asarray(layer.bias, float)
        if mlp.norms:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * np.asarray(mlp.norms[i].scale) + np.asarray(mlp.norms[i].bias)
        x = f(x)
    return x


def convolution_in_scipy(layer, x: np.ndarray) -> np.ndarray:
    """One image [H, W, C] by `scipy.signal.correlate`, one filter after the other."""
    kernel, bias = np.asarray(layer.kernel, float), np.asarray(layer.bias, float)
    if layer.same:
        x = np.pad(x, [((n - 1) // 2, n // 2) for n in kernel.shape[:2]] + [(0, 0)])
    planes = [correlate(x, kernel[..., f], "valid")[..., 0] + bias[f] for f in range(kernel.shape[3])]
    return np.stack(planes, -1)[:: layer.strides[0], :: layer.strides[1]]


def pooled_in_numpy(x: np.ndarray) -> np.ndarray:
    """The largest of 3 x 3 in steps of 2, padded as TensorFlow's "SAME" is, window by window."""
    out = np.zeros((*(-(-n // 2) for n in x.shape[:2]), x.shape[2]))
    before = [max((m - 1) * 2 + 3 - n, 0) // 2 for m, n in zip(out.shape, x.shape[:2])]
    for i, j in np.ndindex(*out.shape[:2]):
        rows, columns = (slice(max(0, 2 * k - b), 2 * k - b + 3) for k, b in zip((i, j), before))
        out[i, j] = x[rows, columns].max((0, 1))
    return out


def convolutions_in_scipy(network, x: np.ndarray) -> np.ndarray:
    """Features of one image [H, W, C] by a `Plain` or `Residual` network."""
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    if isinstance(network, Plain):
        for layer in network.layers:
            x = relu(convolution_in_scipy(layer, x))
        return x.ravel()
    for stage in network.stages:
        x = convolution_in_scipy(stage.entry, x)
        x = pooled_in_numpy(x) if stage.pooled else x
        for first, second in stage.blocks:
            x = x + convolution_in_scipy(second, relu(convolution_in_scipy(first, relu(x))))
    return relu(x).ravel()


def with_biases(module):
    """The module with biases that are not 0."""

    def change(path, leaf):
        if path[-1] == jax.tree_util.GetAttrKey("bias"):
            return jax.random.normal(jax.random.key(leaf.size), leaf.shape) / 4
        return leaf

    return jax.tree_util.tree_map_with_path(change, module)


def count(module) -> int:
    """How many numbers are learned."""
    return sum(x.size for x in jax.tree.leaves(module))
