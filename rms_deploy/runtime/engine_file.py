"""Engine files, and the record that `build` writes beside each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from rms_deploy.errors import ModelFileError

__all__ = ["is_engine", "read_engine", "read_record", "record_path"]

_SUFFIXES: Final = (".engine", ".plan", ".trt")


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an engine, not of an ONNX file."""
    return Path(path).suffix.lower() in _SUFFIXES


def read_engine(path: str | os.PathLike[str]) -> bytes:
    """The plan in an engine file.

    Raises:
        ModelFileError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error


def record_path(engine: str | os.PathLike[str]) -> Path:
    """Where the record of an engine is."""
    return Path(f"{os.fspath(engine)}.json")


def read_record(engine: str | os.PathLike[str]) -> dict[str, Any]:
    """The record beside an engine; empty where there is no such file, or it is no record."""
    try:
        record = json.loads(record_path(engine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
