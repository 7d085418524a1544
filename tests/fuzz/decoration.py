"""What a file may hold beside its graph: IR versions, external data, sparse constants, annotations, training info."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from .graphs import Sample

__all__ = ["decorate"]

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


def decorate(sample: Sample, rng: np.random.Generator) -> None:
    """Change how the model is written, not what it computes."""
    model = sample.model
    _ir_version(model, rng)
    for probability, least, change in (
        (0.12, 4, _external),
        (0.06, 11, _sparse),
        (0.1, 5, _annotations),
        (0.3, 3, _metadata),
        (0.05, 7, _training),
        (0.3, 3, _value_infos),
    ):
        if rng.random() < probability and model.ir_version >= least:
            change(sample, rng)
    if model.ir_version < 4 or rng.random() < 0.1:  # before IR 4, every initialiser is an input too
        _initializers_as_inputs(model)


def _ir_version(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """At least what the opset came with, mostly; 8 for functions, 4 for bodies with initialisers of their own."""
    opset = model.opset_import[0].version
    least = min(ir for _, ir, of_ir, *_ in helper.VERSION_TABLE if of_ir >= opset)
    nested = any(node.op_type in ("If", "Loop", "Scan") for node in model.graph.node)
    floor = 8 if model.functions else 4 if nested else 3
    if rng.random() < 0.3:
        least = floor  # as exporters write it
    model.ir_version = int(rng.integers(max(least, floor), 14))


def _initializers_as_inputs(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def _external(sample: Sample, rng: np.random.Generator) -> None:
    """Some tensors, also those of Constant nodes and functions, go to the data file."""
    from .graphs import DATA_FILE

    data = bytearray()
    nodes = [*sample.model.graph.node, *(node for function in sample.model.functions for node in function.node)]
    constants = [a.t for node in nodes if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    for tensor in (*sample.model.graph.initializer, *constants):
        if tensor.data_type not in _FLOATS or rng.random() < 0.4:  # shapes and axes are read by shape inference
            continue
        entries = {"location": DATA_FILE, "offset": len(data), "length": len(tensor.raw_data)}
        data += tensor.raw_data + bytes(int(rng.integers(16)))
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            if key == "location" or value or rng.random() < 0.5:
                tensor.external_data.add(key=key, value=str(value))
    sample.data = bytes(data)
    sample.labels += ["external data"] * bool(data)


def _sparse(sample: Sample, rng: np.random.Generator) -> None:
    """One initialiser in coordinates; its zeros, if any, are left out."""
    graph = sample.model.graph
    fit = [t for t in graph.initializer if t.data_type in _FLOATS and len(t.dims) == 1 and t.raw_data]
    if not fit:
        return
    dense = fit[int(rng.integers(len(fit)))]
    array = numpy_helper.to_array(dense)
    places = np.flatnonzero(array)
    values = numpy_helper.from_array(array[places], dense.name)
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64)), list(dense.dims))
    graph.sparse_initializer.append(sparse)
    graph.initializer.remove(dense)
    sample.labels.append("sparse initializer")


def _annotations(sample: Sample, rng: np.random.Generator) -> None:
    graph = sample.model.graph
    for name in (graph.input[0].name, graph.output[0].name):
        annotation = graph.quantization_annotation.add(tensor_name=name)
        annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=f"scale{rng.integers(9)}")
    sample.labels.append("quantization annotation")


def _metadata(sample: Sample, rng: np.random.Generator) -> None:
    model = sample.model
    model.producer_name, model.producer_version, model.doc_string = "fuzz", str(rng.integers(9)), "a model"
    model.metadata_props.add(key="author", value="ü")
    model.graph.doc_string = "a graph"
    model.graph.input[0].doc_string = "an input"
    model.graph.input[0].type.denotation = "TENSOR"
    if model.ir_version >= 10:
        model.graph.metadata_props.add(key="graph", value="1")
        for node in model.graph.node:
            node.metadata_props.add(key="node", value=node.op_type)
    sample.labels.append("metadata")


def _training(sample: Sample, rng: np.random.Generator) -> None:  # noqa: ARG001 - all changes are called alike
    """An algorithm of one constant, which no runtime reads."""
    node = helper.make_node("Constant", [], ["training_c"], value=numpy_helper.from_array(np.float32(1)))
    output = helper.make_tensor_value_info("training_c", TensorProto.FLOAT, [])
    sample.model.training_info.add().algorithm.CopyFrom(helper.make_graph([node], "algorithm", [], [output]))
    sample.labels.append("training info")


def _value_infos(sample: Sample, rng: np.random.Generator) -> None:  # noqa: ARG001
    """As exporters write them: the type of every value between."""
    inferred = onnx.shape_inference.infer_shapes(sample.model)
    sample.model.graph.value_info.extend(inferred.graph.value_info)
