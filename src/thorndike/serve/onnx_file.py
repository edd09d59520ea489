"""A policy's graph as an ONNX file, and what runs one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from thorndike.errors import CheckpointError, ConfigError
from thorndike.extras import importing
from thorndike.serve.graph import Dim, Length
from thorndike.serve.policy import Policy, Port

OPSET = 20


def write(policy: Policy, path: Path, about: dict[str, str]) -> None:
    """Write an ONNX model; `about` becomes its metadata. Raises `MissingExtraError` without the package onnx."""
    with importing("onnx", "an ONNX file"):
        import onnx
        from onnx import TensorProto, helper, numpy_helper

    kinds = {
        "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64,
        "int32": TensorProto.INT32, "int16": TensorProto.INT16, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64,
        "bool": TensorProto.BOOL, "float16": TensorProto.FLOAT16,
    }  # fmt: skip

    def info(port: Port) -> Any:
        shape = ["batch" if isinstance(size, Dim) else size for size in port.shape]
        return helper.make_tensor_value_info(port.name, kinds[port.dtype], shape)

    constants = {name: np.asarray(x, order="C") for name, x in policy.graph.constants.items()}
    sizes = Sizes(policy.inputs[0].name, constants)
    nodes = []
    for node in policy.graph.nodes:
        inputs, attributes = list(node.inputs), dict(node.attributes)
        if node.shape is not None:
            before = len(sizes.nodes)
            inputs.append(sizes.of(node.shape, free=node.op == "Reshape"))
            nodes += [helper.make_node(op, given, [out], **more) for op, given, out, more in sizes.nodes[before:]]
        if "to" in attributes:
            attributes["to"] = kinds[attributes["to"]]
        nodes.append(helper.make_node(node.op, inputs, [node.output], **attributes))
    nodes += [helper.make_node("Identity", [port.tensor], [port.name]) for port in policy.outputs]
    weights = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = helper.make_graph(
        nodes, "policy", [info(p) for p in policy.inputs], [info(p) for p in policy.outputs], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="thorndike")
    model.ir_version = 10  # the first with this opset: older runtimes read it
    helper.set_model_props(model, about | {"sha256": digest(constants)})
    onnx.checker.check_model(model)
    from thorndike.files import replace

    replace(path, [model.SerializeToString()])


def digest(constants: dict[str, np.ndarray]) -> str:
    """SHA-256 of the weights, by name."""
    found = hashlib.sha256()
    for name in sorted(constants):
        x = np.asarray(constants[name], order="C")
        found.update(json.dumps([name, x.dtype.str, x.shape]).encode() + x.tobytes())
    return found.hexdigest()


class Sizes:
    """Shapes as ONNX wants them: constants, or computed from the size of the batch."""

    def __init__(self, seen: str, constants: dict[str, np.ndarray]):
        self.seen, self.constants = seen, constants
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self.made: dict[Any, str] = {}

    def of(self, shape: tuple[Length, ...], free: bool) -> str:
        """The name of a shape; with `free` one length may be -1, that is whatever is left."""
        unknown = [size for size in shape if isinstance(size, Dim)]
        if not unknown or (free and len(unknown) == 1 and 0 not in shape):
            return self._constant(tuple(-1 if isinstance(size, Dim) else size for size in shape))
        if shape not in self.made:
            parts = [self._length(size) if isinstance(size, Dim) else self._constant((size,)) for size in shape]
            self.made[shape] = self._add("Concat", parts, axis=0)
        return self.made[shape]

    def _constant(self, numbers: tuple[int, ...]) -> str:
        key = "constant", numbers
        if key not in self.made:
            self.made[key] = f"s{len(self.constants)}"
            self.constants[self.made[key]] = np.array(numbers, np.int64)
        return self.made[key]

    def _length(self, size: Dim) -> str:
        if "batch" not in self.made:
            self.made["batch"] = self._add("Shape", [self.seen], start=0, end=1)
        name = self.made["batch"]
        if size.times != 1:
            name = self._add("Mul", [name, self._constant((size.times,))])
        return self._add("Add", [name, self._constant((size.plus,))]) if size.plus else name

    def _add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"n{len(self.nodes)}"
        self.nodes.append((op, inputs, output, attributes))
        return output


class OnnxPolicy:
    """An ONNX file of `export`, run by ONNX Runtime on one thread: a function of named arrays."""

    def __init__(self, path: str | Path):
        """Read it; raises `CheckpointError` where it is none, or damaged, `MissingExtraError` without onnxruntime."""
        with importing("onnxruntime", "running an ONNX file"):
            import onnx
            import onnxruntime
        path = Path(path).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no file {path}")
        try:
            model = onnx.load_model_from_string(path.read_bytes())
            about = {entry.key: entry.value for entry in model.metadata_props}
            weights = {x.name: onnx.numpy_helper.to_array(x) for x in model.graph.initializer}
        except Exception as error:  # whatever is wrong with such a file
            raise CheckpointError(f"{path} is no ONNX file: {type(error).__name__}") from None
        if "thorndike" not in about:
            raise CheckpointError(f"{path} was not written by thorndike export")
        if about.get("sha256") != digest(weights):
            raise CheckpointError(f"{path} is damaged: its weights are not those that were saved")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self.about = json.loads(about["thorndike"])
        self.inputs = {x.name: (x.type, x.shape) for x in self.session.get_inputs()}
        self.outputs = [x.name for x in self.session.get_outputs()]

    def __call__(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, given)))
