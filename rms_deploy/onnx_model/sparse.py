"""Sparse tensors: onnx-ir has none, so they are read as the dense ones that they stand for, as ONNX Runtime does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from rms_deploy.onnx_model.external_data import DataFileTensor, DataFolders
from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.tensor_check import check_tensor, size_of

__all__ = ["check_growth", "check_sparse", "densify"]

_FREE: Final = 2**27
_GROWTH: Final = 64
"""Bytes that the sparse tensors of a model may have as dense ones: so many, and so many times what they have.

A small file must not fill the memory.
"""


def check_sparse(sparse: onnx.SparseTensorProto) -> tuple[int, int, int]:
    """The bytes that the values and the indices of `sparse` need, and those of the dense tensor.

    Raises:
        MalformedError: they do not fit each other or the dims.
    """
    name = printable(sparse.values.name) or "a sparse tensor"
    sizes = check_tensor(sparse.values), check_tensor(sparse.indices)
    dense = size_of(name, sparse.values.data_type, sparse.dims[:])
    values, indices, rank = sparse.values.dims[:], sparse.indices.dims[:], len(sparse.dims)
    if sparse.values.data_type == onnx.TensorProto.STRING:
        raise MalformedError(f"{name}: sparse strings are not supported")
    if len(values) != 1 or indices not in ([values[0]], [values[0], rank]):
        raise MalformedError(f"{name}: its {values} values and {indices} indices do not fit each other")
    if sparse.indices.data_type != onnx.TensorProto.INT64:
        raise MalformedError(f"{name}: its indices are no INT64")
    return *sizes, dense


def check_growth(own: int, dense: int) -> None:
    """Whether all sparse tensors of a model, of `own` bytes, may become dense ones of `dense` bytes.

    Raises:
        MalformedError: these are too many.
    """
    if dense > _FREE + _GROWTH * own:
        raise MalformedError(f"its sparse tensors of {own} bytes have {dense} bytes as dense ones, which are not read")


def densify(model: onnx.ModelProto, folders: DataFolders) -> onnx.ModelProto:
    """`model` with every sparse initialiser, and every sparse value of a Constant node, as the dense tensor it means.

    Args:
        model: one that the check passed; it stays what it was.
        folders: where its data files lie.

    Raises:
        MalformedError: an index is outside, or a sparse tensor lies where nothing dense can take its place.
    """
    dense = onnx.ModelProto()
    dense.CopyFrom(model)
    for graph, nodes in _graphs(dense):
        if graph is not None:
            for sparse in graph.sparse_initializer:
                graph.initializer.append(_dense(sparse, folders))
            del graph.sparse_initializer[:]
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type in (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS):
                    _densify_attribute(node, attribute, folders)
    return dense


def _graphs(model: onnx.ModelProto) -> Iterator[tuple[onnx.GraphProto | None, list[onnx.NodeProto]]]:
    waiting: list[tuple[onnx.GraphProto | None, list[onnx.NodeProto]]] = [(model.graph, list(model.graph.node))]
    waiting += [(None, list(function.node)) for function in model.functions]
    for graph, nodes in waiting:  # grows
        yield graph, nodes
        for node in nodes:
            for attribute in node.attribute:
                bodies = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
                waiting += [(body, list(body.node)) for body in bodies]


def _densify_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto, folders: DataFolders) -> None:
    if node.op_type != "Constant" or attribute.name != "sparse_value" or attribute.ref_attr_name:
        name = printable(node.name or next(iter(node.output), ""))
        raise MalformedError(f"{name}: sparse attribute {attribute.name} of {node.op_type} is not supported")
    tensor = _dense(attribute.sparse_tensor, folders)
    attribute.Clear()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(tensor)


def _dense(sparse: onnx.SparseTensorProto, folders: DataFolders) -> onnx.TensorProto:
    name, dims = sparse.values.name, tuple(sparse.dims)
    values, indices = (_array(part, folders) for part in (sparse.values, sparse.indices))
    if indices.ndim == 2:
        bounds, flat = np.array(dims), None
    else:
        bounds, flat = np.array(prod(dims)), indices
    if (indices < 0).any() or (indices >= bounds).any():
        raise MalformedError(f"{printable(name)}: an index is outside its dims")
    array = np.zeros(dims, values.dtype)
    if flat is None:
        array[tuple(indices.T)] = values
    else:
        array.reshape(-1)[flat] = values
    return ir.serde.serialize_tensor(ir.tensor(array, name=name))


def _array(proto: onnx.TensorProto, folders: DataFolders) -> np.ndarray:
    tensor = ir.serde.deserialize_tensor(proto)
    if isinstance(tensor, ir.ExternalTensor):
        tensor = DataFileTensor(tensor, folders.find(os.fspath(tensor.location))[0], folders.folder)
    return tensor.numpy()
