"""Engine files, and the record that `build` writes beside each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

__all__ = ["is_engine", "read_record"]


_SUFFIXES: Final = (".engine", ".plan", ".trt")


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an engine, not of an ONNX file."""
    return Path(path).suffix.lower() in _SUFFIXES


def read_record(engine: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file beside an engine says; empty where there is none, or no such one."""
    try:
        record = json.loads(Path(f"{os.fspath(engine)}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
