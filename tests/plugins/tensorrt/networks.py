"""Models of one node of the domain, what TensorRT makes of them, and the sources of the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - gives numpy its bfloat16
import numpy as np
import onnx
from onnx import helper

from rms_deploy.ops import contract


def node_model(
    op: str = "RMSNorm",
    types: tuple[str, str] = ("float32", "float32"),
    *,
    shape: tuple[int | str, ...] = ("batch", "sequence", 64),
    operand: tuple[int | str, ...] | None = None,
    scale: tuple[int, ...] = (64,),
    shift: tuple[int, ...] | None = None,
    residual: str | None = None,
    shift_type: str | None = None,
    domain: str = contract.DOMAIN,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named 'norm' whose scale and shift are initializers.

    `operand`: shape of R or Z where it is not that of X; `shift`: that of shift where it is not that of scale;
    `residual` and `shift_type`: dtypes of R and shift where they are not those of X and scale.
    """
    kind = contract.OPS[op]
    if kind.is_partial:
        attributes.setdefault("partial_size", 8)
    if kind.is_quantized:
        attributes = {"y_scale": 0.05, "output_dtype": contract.QUANTIZED_TYPES["int8"]} | attributes
    x, weights = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in types)
    sums = x if residual is None else helper.np_dtype_to_tensor_dtype(np.dtype(residual))
    numbers = {"T": x, "S": weights, "U": sums, "Q": attributes.get("output_dtype", 0)}
    shapes = {"X": shape, "R": operand or shape, "Z": operand or shape}
    constants = {"scale": (scale, types[1]), "shift": (shift or scale, shift_type or types[1])}
    inputs = [name for name, _ in kind.inputs]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [name for name, _ in kind.outputs], name="norm", domain=domain, **attributes)],
        "one_node",
        [helper.make_tensor_value_info(n, numbers[v], shapes[n]) for n, v in kind.inputs if n not in constants],
        [helper.make_tensor_value_info(name, numbers[variable], shape) for name, variable in kind.outputs],
        [
            helper.make_tensor(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims, np.ones(dims, dtype).tobytes(), raw=True
            )
            for name, (dims, dtype) in constants.items()
            if name in inputs
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(domain, contract.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def quantized_network(dtype: str, output_dtype: str, *, is_add: bool) -> onnx.ModelProto:
    """A quantised norm in front of a quantised MatMul, as a quantised decoder has it; X, R and scale of one dtype."""
    element, code = (
        helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (dtype, output_dtype.replace("8e", "8_e"))
    )
    op, more = ("AddRMSNormQuantize", ["R"]) if is_add else ("RMSNormQuantize", [])
    y_scale = np.array(0.05, dtype)
    quantization = {"y_scale": float(y_scale), "output_dtype": code}
    outputs = ["Y", "Sum"] if is_add else ["Y"]
    nodes = [
        helper.make_node(op, ["X", *more, "scale"], outputs, name="norm", domain=contract.DOMAIN, **quantization),
        helper.make_node("DequantizeLinear", ["Y", "y_scale"], ["dequantized"]),
        helper.make_node("DequantizeLinear", ["weight", "y_scale"], ["dequantized_weight"]),
        helper.make_node("MatMul", ["dequantized", "dequantized_weight"], ["out"]),
    ]
    shape = ("batch", "sequence", 64)
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info(name, element, shape) for name in ("X", *more)],
        [
            helper.make_tensor_value_info("out", element, ("batch", "sequence", 32)),
            *(helper.make_tensor_value_info(name, element, shape) for name in outputs[1:]),
        ],
        [
            helper.make_tensor("scale", element, (64,), np.ones(64, dtype).tobytes(), raw=True),
            helper.make_tensor("y_scale", element, (), y_scale.tobytes(), raw=True),
            helper.make_tensor("weight", code, (64, 32), np.full(64 * 32, 0x11, np.uint8).tobytes(), raw=True),
        ],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(contract.DOMAIN, contract.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def plugin_sources() -> list[Path]:
    """The C++ of the plugin library; the loader is a library of its own."""
    folder = Path(__file__).parents[3] / "plugins"
    return [path for path in sorted([*folder.glob("*.cpp"), *folder.glob("tensorrt/*.cpp")]) if path.stem != "loader"]


class Network:
    """A model as TensorRT's parser reads it; `errors` is empty if it does."""

    def __init__(self, trt: Any, logger: Any, model: onnx.ModelProto) -> None:
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        self._trt = trt
        self.builder = trt.Builder(logger)
        self.network = self.builder.create_network(0 if flag is None else 1 << int(flag))
        self._parser = trt.OnnxParser(self.network, logger)  # the network's weights are the parser's
        self._parser.parse(model.SerializeToString())
        self.errors = [self._parser.get_error(i).desc() for i in range(self._parser.num_errors)]

    def layers(self) -> list[tuple[str, str]]:
        layers = [self.network.get_layer(i) for i in range(self.network.num_layers)]
        return [(layer.type.name, layer.name) for layer in layers]

    def plan(self, *capabilities: str, library: Any = None) -> bytes | None:
        """Built for these compute capabilities; 1 to 4 at each dynamic dimension; with `library` inside."""
        config = self.builder.create_builder_config()
        config.num_compute_capabilities = len(capabilities)
        for index, name in enumerate(capabilities):
            config.set_compute_capability(getattr(self._trt.ComputeCapability, name), index)
        if library is not None:
            config.plugins_to_serialize = [str(library)]
        profile = self.builder.create_optimization_profile()
        for i in range(self.network.num_inputs):
            tensor = self.network.get_input(i)
            sizes = [[n if size < 0 else size for size in tensor.shape] for n in (1, 2, 4)]
            profile.set_shape(tensor.name, *sizes)
        config.add_optimization_profile(profile)
        plan = self.builder.build_serialized_network(self.network, config)
        return None if plan is None else bytes(plan)
