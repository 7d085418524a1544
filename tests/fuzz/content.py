"""What a model holds beside what it computes, and whether it is still there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

__all__ = ["lost"]


def lost(before: Path, after: Path) -> str:
    """The first part of `before` that `after` has not, or nothing."""
    old, new = (onnx.load(path, load_external_data=False) for path in (before, after))
    for what, a, b in _parts(old, new):
        missing = [item for item in a if item not in b]
        if missing:
            return what
    return ""


def _parts(old: onnx.ModelProto, new: onnx.ModelProto) -> list[tuple[str, Sequence[Any], Sequence[Any]]]:
    return [
        ("producer", [old.producer_name, old.producer_version], [new.producer_name, new.producer_version]),
        ("documentation", [old.doc_string, old.graph.doc_string], [new.doc_string, new.graph.doc_string]),
        ("metadata of the model", old.metadata_props, new.metadata_props),
        ("metadata of the graph", old.graph.metadata_props, new.graph.metadata_props),
        ("training info", old.training_info, new.training_info),
        ("quantization annotation", old.graph.quantization_annotation, new.graph.quantization_annotation),
        ("signature", old.graph.input[:1], new.graph.input),
        ("names of outputs", [v.name for v in old.graph.output], [v.name for v in new.graph.output]),
    ]
