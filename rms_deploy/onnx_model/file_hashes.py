"""SHA-256 of files: what a result was measured with, or an engine built from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import onnx_ir as ir

__all__ = ["file_hash", "model_hashes"]


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def model_hashes(path: str | os.PathLike[str], model: ir.Model) -> dict[str, str]:
    """SHA-256 of a model's file and of each file that its weights lie in, by name."""
    path = Path(path)
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    data = {os.fspath(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    return {path.name: file_hash(path)} | {name: file_hash(path.parent / name) for name in sorted(data)}
