"""Output files: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rms_deploy.errors import OutputError

__all__ = ["atomic_path", "check_output"]


def check_output(path: str | os.PathLike[str]) -> None:
    """Say now, before long work, that `path` cannot be written.

    Raises:
        OutputError: it is a directory, its folder does not exist, or one of them is read-only.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file name")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is a device or a pipe; give a file name")
    if not path.resolve().parent.is_dir():
        raise OutputError(f"{path}: the folder {path.resolve().parent} does not exist; create it first")
    if not os.access(path.resolve().parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: no permission to write here")


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` when the block ends, and vanishes if it fails.

    A link stays a link, and a file that is replaced hands on its permissions.
    """
    target = Path(target).resolve()
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
