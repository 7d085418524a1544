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
    domain: str = contract.DOMAIN,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node named 'norm' whose scale is an initializer; `operand`: shape of R or Z where it is not that of X."""
    number, scale_number = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in types)
    if contract.OPS[op].is_partial:
        attributes.setdefault("partial_size", 8)
    names = [name for name, _ in contract.OPS[op].inputs]
    outputs = [name for name, _ in contract.OPS[op].outputs]
    shapes = {"X": shape, "R": operand or shape, "Z": operand or shape}
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, name="norm", domain=domain, **attributes)],
        "one_node",
        [helper.make_tensor_value_info(name, number, shapes[name]) for name in names[:-1]],
        [helper.make_tensor_value_info(name, number, shape) for name in outputs],
        [helper.make_tensor("scale", scale_number, scale, np.ones(scale, types[1]).tobytes(), raw=True)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, contract.VERSION)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


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
