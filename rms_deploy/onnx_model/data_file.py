"""A model and its data file, replaced as one: whatever ends the process, the old pair or the new is there.

Two files cannot be replaced at once, so the model decides which data file is its own. Where `<model>.data` is free, the
data goes there and the model after it. Where it is taken:

1. the new data goes to a name of its own, `<model>.<generation>.data`;
2. a model that refers to it replaces the old model: from here on the new pair counts;
3. `<model>.data` becomes a link to the new data, and a model that refers to that name replaces the one of step 2;
4. the data takes the place of the link.

After each step the model that is there has all its data. A process that ends before step 3 leaves a pair that works
under the longer name, and one that ends before step 4, a microsecond later, a data file that is a link, which ONNX
Runtime follows and the onnx package does not. The next write to that place puts both right: it removes the data files
that no model refers to.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from rms_deploy.errors import OutputError
from rms_deploy.output_file import locked

__all__ = ["place_model", "place_pair"]

_MAX_NAME: Final = 255
_GENERATION: Final = r"\.[0-9a-f]{8}\.data"


def place_model(new: Path, model: Path, referred: set[str]) -> None:
    """Move the file `new` to `model`; `referred`: the data files that it refers to, which stay."""
    with locked(model.parent) as is_locked:
        _replace(new, model)
        if is_locked:
            _remove_generations(model, referred)


def place_pair(folder: Path, model: Path, write: Callable[[Path, str], None]) -> Path:
    """Move the data file in `folder` and a model beside each other.

    Args:
        folder: the work folder; the new data lies in it as `data`.
        model: where the model goes. Its data file goes to `<model>.data`.
        write: writes the model to a path, with a name for its data file.

    Returns:
        The data file: of the longer name if something failed after the new pair was there.

    Raises:
        OSError: something could not be moved, and the old pair is what it was.
        OutputError: the name of the model leaves no room for that of its data.
    """
    data = model.with_name(f"{model.name}.data")
    generation = model.with_name(f"{model.name}.{secrets.token_hex(4)}.data")
    if len(os.fsencode(generation.name)) > _MAX_NAME:
        raise OutputError(f"{model}: the name is too long for a data file beside it; give a shorter one")
    with locked(model.parent) as is_locked:
        if os.path.lexists(data):
            if data.exists():
                shutil.copymode(data, folder / "data")
            _place_beside(folder, model, generation, write)
            placed = _renamed(folder, model, generation, data, write)
        else:
            _place_beside(folder, model, data, write)
            placed = data
        if is_locked:
            _remove_generations(model, {placed.name})
    return placed


def _place_beside(folder: Path, model: Path, data: Path, write: Callable[[Path, str], None]) -> None:
    """The data to a free name, and the model after it; if that fails, the data goes again."""
    write(folder / "model", data.name)
    _replace(folder / "data", data)
    try:
        _replace(folder / "model", model)
    except OSError:
        data.unlink(missing_ok=True)
        raise


def _renamed(folder: Path, model: Path, generation: Path, data: Path, write: Callable[[Path, str], None]) -> Path:
    """Steps 3 and 4; the name that the data has in the end. Where the disk has no links, that is the longer one."""
    try:
        write(folder / "model", data.name)
        (folder / "link").symlink_to(generation.name)
        (folder / "link").replace(data)
        _replace(folder / "model", model)
    except OSError:
        return generation
    with suppress(OSError):
        generation.replace(data)
    return data


def _replace(source: Path, target: Path) -> None:
    """Move a file; the one that it replaces hands on its permissions."""
    if target.exists():
        shutil.copymode(target, source)
    source.replace(target)


def _remove_generations(model: Path, referred: set[str]) -> None:
    """Data files of writes that ended early, which `model` does not refer to; one that is linked moves to its place.

    The folder is locked: no one is between two steps.
    """
    data = model.with_name(f"{model.name}.data")
    linked = data.readlink().name if data.is_symlink() else ""
    pattern = re.compile(re.escape(model.name) + _GENERATION)
    for file in model.parent.iterdir():
        if not pattern.fullmatch(file.name) or file.name in referred:
            continue
        if file.name == linked:
            file.replace(data)
        else:
            file.unlink(missing_ok=True)
