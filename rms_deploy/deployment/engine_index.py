"""The index of a folder of engines, one for each GPU type: `index.json`, which `package` reads.

{
  "format": 1,
  "engines": [
    {
      "gpu_type": "L4",                     as Ray names it
      "device": "sm89",                     its compute capability
      "engine": "decoder-L4.engine",        in the folder
      "record": "decoder-L4.engine.json",   in the folder: what `build` recorded
      "model": "../decoder.onnx"            as seen from the folder: what it was built from
    }
  ]
}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rms_deploy.errors import InputError
from rms_deploy.output_file import atomic_path

__all__ = ["INDEX", "IndexedEngine", "engine_for", "read_index", "write_index"]

INDEX: Final = "index.json"
"""The name of the file."""

_FORMAT: Final = 1


@dataclass(frozen=True)
class IndexedEngine:
    """One engine of a folder."""

    gpu_type: str
    device: str
    engine: str
    record: str
    model: str


def write_index(folder: str | os.PathLike[str], engines: Sequence[IndexedEngine]) -> None:
    """Write the index of a folder.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(Path(folder, INDEX)) as path:
        content = {"format": _FORMAT, "engines": [asdict(engine) for engine in engines]}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_index(folder: str | os.PathLike[str]) -> tuple[IndexedEngine, ...]:
    """The engines of a folder.

    Raises:
        InputError: it has no index, one of another format, or a damaged one.
    """
    path = Path(folder, INDEX)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            raise InputError(f"{path}: has format {data['format']!r}, this version reads {_FORMAT}; build it again")
        return tuple(IndexedEngine(**engine) for engine in data["engines"])
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no index of engines; `rms_deploy.build_for_gpus` writes one") from error


def engine_for(folder: str | os.PathLike[str], gpu_type: str | None) -> IndexedEngine:
    """The engine of a folder that is for one GPU type; None: the only one.

    Raises:
        InputError: the folder has no index, or none or several engines are meant.
    """
    engines = read_index(folder)
    found = [engine for engine in engines if gpu_type in (None, engine.gpu_type)]
    if len(found) == 1:
        return found[0]
    here = ", ".join(engine.gpu_type for engine in engines) or "no engine"
    if gpu_type is None:
        raise InputError(f"{os.fspath(folder)}: give `gpu_type`, one of {here}")
    raise InputError(f"{os.fspath(folder)}: `gpu_type` is {gpu_type!r}; the folder has {here}")
