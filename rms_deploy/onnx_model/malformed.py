"""What a check finds: a part of a model that no runtime could read."""

from __future__ import annotations

import onnx

__all__ = ["MalformedError", "node_label", "printable"]


class MalformedError(ValueError):
    """A malformed part, in words. Who opened the model says which file it was, as a `ModelFileError`."""


def node_label(node: onnx.NodeProto) -> str:
    """How messages name a node: its name, its first output or its operator."""
    return printable(node.name or next(iter(node.output), "") or node.op_type or "a node")


def printable(name: str | bytes) -> str:
    """A name in one line, whatever it holds."""
    text = name.decode(errors="backslashreplace") if isinstance(name, bytes) else name
    return text if text.isprintable() else text.encode("unicode_escape").decode()
