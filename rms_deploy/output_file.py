"""Output files: whole or not at all, whatever ends the process, and whoever else writes there.

What is written grows in a folder of its own beside the target, which is locked as long as its writer lives. A writer
that was killed leaves the folder behind; the next one finds it unlocked and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rms_deploy.errors import OutputError

__all__ = ["atomic_path", "check_output", "create_folder", "locked", "work_folder"]

_PREFIX: Final = ".rms-deploy-"
_MAX_NAME: Final = 255
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def check_output(path: str | os.PathLike[str]) -> None:
    """Say now, before long work, that `path` cannot be written.

    Raises:
        OutputError: it is a directory, its folder does not exist, one of them is read-only, or no file can have its
            name: it is too long, not UTF-8 or a circle of links.
    """
    text = os.fspath(path)
    shown = text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
    if shown != text:
        raise OutputError(f"{shown}: is no name of a file that every tool can read; give one in UTF-8")
    try:
        _check_place(Path(path))
    except OSError as error:
        raise OutputError(f"{shown}: cannot be written: {error.strerror}") from error


def _check_place(path: Path) -> None:
    exists = _exists(path)
    target = Path(os.path.realpath(path))
    if len(os.fsencode(target.name)) > _MAX_NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if target.is_dir():
        raise OutputError(f"{path}: is a directory; give a file name")
    if exists and not target.is_file():
        raise OutputError(f"{path}: is a device or a pipe; give a file name")
    if not target.parent.is_dir():
        raise OutputError(f"{path}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK) or (exists and not os.access(path, os.W_OK)):
        raise OutputError(f"{path}: no permission to write here")


def _exists(path: Path) -> bool:
    """Whether `path`, or what it links to, exists.

    Raises:
        OSError: it cannot: links lead to each other, or the name is too long.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def create_folder(path: str | os.PathLike[str]) -> None:
    """Create a folder for outputs, and those above it; it may be there.

    Raises:
        OutputError: it is a file, or cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{os.fspath(path)}: is a file; give the name of a folder") from None
    except OSError as error:
        raise OutputError(f"{os.fspath(path)}: cannot be created: {error.strerror}") from error


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; it becomes `target` when the block ends, and vanishes if it fails.

    A link stays a link, and a file that is replaced hands on its permissions.

    Raises:
        OutputError: the disk is full or broken.
    """
    resolved = Path(os.path.realpath(target))
    try:
        with work_folder(resolved.parent) as folder:
            temporary = folder / resolved.name
            yield temporary
            if resolved.exists():
                shutil.copymode(resolved, temporary)
            temporary.replace(resolved)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutputError(f"{os.fspath(target)}: cannot be written: {error.strerror}") from error


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder inside `parent`, which goes when the block ends; those of killed processes go first."""
    with locked(parent) as is_locked:
        if is_locked:
            _remove_dead(parent)
        folder = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        lock = _lock(folder, wait=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold `folder` alone among all threads and processes that do the same; False where the disk has no locks."""
    lock = _lock(folder, wait=True)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock, which ends with it; None: someone else has it, or there are none here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_dead(parent: Path) -> None:
    """The folders of writers that no longer live. `parent` is locked, so none is just being made."""
    for folder in parent.glob(f"{_PREFIX}*/"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
