"""The check of what graphs hold: attributes and tensors, sparse ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx

from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.node_rules import ATTRIBUTE_TYPES
from rms_deploy.onnx_model.sparse import check_growth, check_sparse
from rms_deploy.onnx_model.tensor_check import check_tensor
from rms_deploy.onnx_model.type_check import check_text, check_texts, check_type

__all__ = ["PLAIN", "ContentCheck"]

_A: Final = onnx.AttributeProto
PLAIN: Final = frozenset((_A.INT, _A.FLOAT, _A.STRING, _A.INTS, _A.FLOATS))
"""Types of attributes in whose values nothing can be wrong."""
_OF_A_REFERENCE: Final = {"name", "doc_string", "type", "ref_attr_name"}


class ContentCheck:
    """Checks one attribute or tensor after the other, and keeps which lie in other files."""

    def __init__(self, *, is_ours: bool) -> None:
        """`is_ours`: this package wrote the tensors, so that it only matters where they lie."""
        self.is_ours: Final = is_ours
        self.external: Final[list[tuple[onnx.TensorProto, int]]] = []
        """Tensors whose data lies in another file, with the bytes that each needs."""
        self.has_sparse = False
        self._sparse_bytes, self._dense_bytes = 0, 0

    def attribute(self, attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
        """Check what an attribute holds; its graphs, which are not checked here.

        Raises:
            MalformedError: what is wrong.
        """
        name, kind = printable(attribute.name), attribute.type
        if kind not in ATTRIBUTE_TYPES:
            raise MalformedError(f"attribute {name} has no type")
        check_text(f"attribute {name}", attribute.ref_attr_name)
        if attribute.ref_attr_name:
            if {field.name for field, _ in attribute.ListFields()} - _OF_A_REFERENCE:
                raise MalformedError(f"attribute {name} has a value, and refers to an attribute of a function besides")
            return ()
        if kind == _A.GRAPH:
            return (attribute.g,)
        for tensor in [attribute.t] if kind == _A.TENSOR else attribute.tensors:
            self.tensor(tensor)
        for sparse in [attribute.sparse_tensor] if kind == _A.SPARSE_TENSOR else attribute.sparse_tensors:
            self.sparse(sparse)
        for declared in [attribute.tp] if kind == _A.TYPE_PROTO else attribute.type_protos:
            check_type(f"attribute {name}", declared)
        if kind == _A.STRINGS:
            _check_strings(name, attribute.strings)
        return list(attribute.graphs)

    def tensor(self, tensor: onnx.TensorProto) -> None:
        """Check a tensor; one whose data lies elsewhere is kept in `external`.

        Raises:
            MalformedError: what is wrong.
        """
        if self.is_ours:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                self.external.append((tensor, 0))
            return
        check_text("the name of a tensor", tensor.name)
        size = check_tensor(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            self.external.append((tensor, size))
        if tensor.doc_string or tensor.metadata_props:
            check_text(f"the doc_string of {tensor.name}", tensor.doc_string)
            check_texts(f"the metadata of {tensor.name}", tensor.metadata_props)

    def sparse(self, sparse: onnx.SparseTensorProto) -> None:
        """Check a sparse tensor; what of it lies elsewhere is kept in `external`.

        Raises:
            MalformedError: what is wrong.
        """
        self.has_sparse = True
        check_text("the name of a tensor", sparse.values.name)
        *sizes, dense = check_sparse(sparse)
        for tensor, size in zip((sparse.values, sparse.indices), sizes, strict=True):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                self.external.append((tensor, size))
        self._sparse_bytes += sum(sizes)
        self._dense_bytes += dense
        check_growth(self._sparse_bytes, self._dense_bytes)


def _check_strings(name: str, texts: Sequence[bytes]) -> None:
    try:
        b" ".join(texts).decode()
    except UnicodeDecodeError:
        raise MalformedError(f"attribute {name} holds text that is not UTF-8") from None
