"""What onnx-ir does not read of a model: it is kept beside the model, and put back where the model is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

import onnx
import onnx_ir as ir

from rms_deploy.errors import OutputError

__all__ = ["from_proto", "hand_on_parts", "to_proto"]

_TRAINING: Final = "rms_deploy.training_info"
"""In the `meta` of a model."""


def from_proto(proto: onnx.ModelProto, folder: str | os.PathLike[str]) -> ir.Model:
    """The model of `proto`, whose weights it shares, with its training info.

    External data of the training info, which lies in `folder`, is read: no one takes it along later.
    """
    model = ir.from_proto(proto)
    if proto.training_info:
        kept = onnx.ModelProto()
        kept.training_info.extend(proto.training_info)
        for training in kept.training_info:
            for tensor in (*_tensors(training.initialization), *_tensors(training.algorithm)):
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    _read(tensor, folder)
        model.meta[_TRAINING] = kept
    return model


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """The proto of `model`, with the training info that it was read with.

    Raises:
        OutputError: the training info refers to what is no initialiser of the model any more.
    """
    proto = ir.to_proto(model)
    kept: onnx.ModelProto | None = model.meta.get(_TRAINING)
    if kept is not None:
        _check_bindings(kept.training_info, model)
        proto.training_info.extend(kept.training_info)
    return proto


def hand_on_parts(old: ir.Model, new: ir.Model) -> None:
    """Keep beside `new`, which was made of `old`, what is kept beside `old`."""
    if _TRAINING in old.meta:
        new.meta[_TRAINING] = old.meta[_TRAINING]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    graphs = [graph]
    for inner in graphs:  # grows
        yield from inner.initializer
        for attribute in (attribute for node in inner.node for attribute in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            graphs += (attribute.g, *attribute.graphs)


def _read(tensor: onnx.TensorProto, folder: str | os.PathLike[str]) -> None:
    external = ir.serde.deserialize_tensor(tensor)
    assert isinstance(external, ir.ExternalTensor)
    external.base_dir = folder
    tensor.raw_data = external.tobytes()
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def _check_bindings(trainings: Iterable[onnx.TrainingInfoProto], model: ir.Model) -> None:
    own = {tensor.name for training in trainings for tensor in training.initialization.initializer}
    for training in trainings:
        own.update(tensor.name for tensor in training.algorithm.initializer)
        for binding in (*training.initialization_binding, *training.update_binding):
            if binding.key not in own and binding.key not in model.graph.initializers:
                raise OutputError(
                    f"the training info of the model sets {binding.key}, which is no initialiser any more, as only a "
                    "norm read it; remove the training info, or leave the model as it is"
                )
