"""The names, texts and declared types of a model file."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from rms_deploy.onnx_model.malformed import MalformedError, printable
from rms_deploy.onnx_model.tensor_check import ELEMENT_TYPES, MAX_RANK

__all__ = ["check_text", "check_texts", "check_type", "check_value"]


def check_text(what: str, text: str | bytes) -> None:
    """Whether `text` is one: protobuf hands out what is not UTF-8 as bytes.

    Raises:
        MalformedError: it is not.
    """
    if isinstance(text, bytes):
        raise MalformedError(f"{what} is not UTF-8: {printable(text)[:80]}")


def check_texts(what: str, entries: Iterable[onnx.StringStringEntryProto]) -> None:
    """Keys and values.

    Raises:
        MalformedError: one is not UTF-8.
    """
    for entry in entries:
        check_text(what, entry.key)
        check_text(what, entry.value)


def check_value(value: onnx.ValueInfoProto) -> bool:
    """The name and declared type of a value, which may be left out; whether a dim is negative.

    Raises:
        MalformedError: the name is not UTF-8, or the type is none that can be read.
    """
    name = value.name
    check_text("the name of a value", name)
    if value.doc_string:
        check_text(f"doc_string of {name}", value.doc_string)
    if value.metadata_props:
        check_texts(f"metadata of {name}", value.metadata_props)
    return value.HasField("type") and check_type(printable(name) or "a value", value.type)


def check_type(label: str, kind: onnx.TypeProto) -> bool:
    """A declared type: a tensor, or a sequence or an optional of such; whether a dim is negative.

    Raises:
        MalformedError: the element type is unknown, there are more dims than numpy holds, or it is a map or opaque.
    """
    while True:
        check_text(f"denotation of {label}", kind.denotation)
        which = kind.WhichOneof("value")
        if which in ("sequence_type", "optional_type"):
            inner = getattr(kind, which).elem_type
            if inner.WhichOneof("value") is None:
                raise MalformedError(f"{label}: its {which.replace('_', ' ')} is one of nothing")
            kind = inner
            continue
        if which in ("map_type", "opaque_type"):
            raise MalformedError(f"{label}: {which.replace('_', ' ')} is not supported; cut that part off")
        break
    if which is None:
        return False
    tensor = getattr(kind, which)
    if tensor.elem_type not in ELEMENT_TYPES:
        raise MalformedError(f"{label}: element type {tensor.elem_type} is unknown")
    dims = tensor.shape.dim
    if len(dims) > MAX_RANK:
        raise MalformedError(f"{label}: has {len(dims)} dims; at most {MAX_RANK} are read")
    is_negative = False
    for dim in dims:
        if dim.dim_value < 0:
            is_negative = True
        check_text(f"a dim of {label}", dim.dim_param)
        if dim.denotation:
            check_text(f"denotation of {label}", dim.denotation)
    return is_negative
