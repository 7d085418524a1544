"""Weights in files beside the model: which files those may be, and reading them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir

from rms_deploy.errors import ModelFileError
from rms_deploy.onnx_model.malformed import MalformedError, printable

__all__ = ["DataFileTensor", "DataFolders", "check_data", "check_range"]

_MAX_NAME: Final = 255
_MAX_PATH: Final = 4096


class DataFolders:
    """The folders that external data of one model may lie in: the model's, and the one that the model is a link into.

    The second is what the cache of Hugging Face needs, where the model and its data are links into one folder.
    """

    def __init__(self, folder: str | os.PathLike[str], file: str = "model", *, must_exist: bool = True) -> None:
        """`folder` and `file`: where the model lies.

        `must_exist`: whether the data files have to be there now. Those of a model that comes from memory may be
        missing as long as nothing reads them.
        """
        self.folder: Final = Path(folder).absolute()
        resolved = Path(os.path.realpath(self.folder)), Path(os.path.realpath(self.folder / file)).parent
        self._roots: Final = tuple(dict.fromkeys(resolved))
        self._must_exist: Final = must_exist
        self._found: Final[dict[str, tuple[Path, int | None]]] = {}

    def find(self, location: str) -> tuple[Path, int | None]:
        """The file at `location`, links resolved, and its size; None: it is missing, and may be.

        Raises:
            MalformedError: it is outside the folders, missing or not a file, or `location` is no relative path.
        """
        if location not in self._found:
            self._found[location] = self._find(location)
        return self._found[location]

    def _find(self, location: str) -> tuple[Path, int | None]:
        shown = printable(location)
        parts = location.split("/")
        if "\0" in location or len(location) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
            raise MalformedError(f"external data {shown[:80]!r} is no name of a file")
        if not location or location.startswith("/") or ".." in parts:
            raise MalformedError(f"external data {shown} is outside the model's folder")
        for folder in dict.fromkeys((self.folder, *self._roots)):
            path = Path(os.path.realpath(folder / location))
            if not any(path != root and path.is_relative_to(root) for root in self._roots):
                raise MalformedError(f"external data {shown} is outside the model's folder")
            try:
                state = path.stat()
            except OSError:
                continue
            if not stat.S_ISREG(state.st_mode):
                raise MalformedError(f"external data {shown} is no file")
            return path, state.st_size
        if self._must_exist:
            raise MalformedError(f"external data file {shown} is missing; copy it beside the model")
        return Path(os.path.realpath(self.folder / location)), None


def check_data(tensor: onnx.TensorProto, size: int, folders: DataFolders) -> None:
    """Whether all of an external tensor's data may be read.

    Args:
        tensor: the tensor.
        size: the bytes that its type and dims need.
        folders: where data may lie.

    Raises:
        MalformedError: it lies elsewhere, in no file or beyond the end of one, or has another size.
    """
    name = printable(tensor.name) or "a tensor"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if isinstance(location, bytes):
        raise MalformedError(f"{name}: the name of its external data is not UTF-8")
    offset, length = (_number(name, key, entries.get(key)) for key in ("offset", "length"))
    check_range(name, location, offset, length, size, folders)


def check_range(name: str, location: str, offset: int, length: int, size: int, folders: DataFolders) -> None:
    """`check_data` for a tensor whose entries are read; `length` 0: it says none.

    Raises:
        MalformedError: as there.
    """
    if length and length != size:
        raise MalformedError(f"{name}: has {length} bytes of external data; its type and dims need {size}")
    try:
        _, available = folders.find(location)
    except MalformedError as error:
        raise MalformedError(f"{error} ({name})") from None
    if available is not None and offset + size > available:
        raise MalformedError(
            f"external data file {printable(location)} is truncated: {name} ends at byte {offset + size}, "
            f"the file at {available}"
        )


def _number(name: str, key: str, value: str | bytes | None) -> int:
    if value is None:
        return 0
    if isinstance(value, bytes) or not value.isascii() or not value.isdigit() or len(value) > 18:
        raise MalformedError(f"{name}: {key} {printable(value)[:40]!r} of its external data is no number of bytes")
    return int(value)


class DataFileTensor(ir.ExternalTensor):
    """A tensor in a file that was checked when the model was opened: it is read from there, whatever links do later."""

    __slots__ = ("_file", "_folder")

    def __init__(self, tensor: ir.ExternalTensor, file: Path, folder: Path) -> None:
        """`tensor`, whose data begins in `file`, links resolved; `folder`: what its location is relative to."""
        super().__init__(
            tensor.location,
            tensor.offset,
            tensor.length or None,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
        )
        self._file = file
        self._folder = folder

    @property
    def path(self) -> str:
        """The data file."""
        return os.fspath(self._file)

    @property  # type: ignore[misc] # onnx-ir lets its base_dir be set, which would undo the check
    def base_dir(self) -> Path:
        """The folder that `location` is relative to."""
        return self._folder

    def numpy(self) -> np.ndarray:
        """The values, mapped from the file.

        Raises:
            ModelFileError: the file is no longer what it was.
        """
        with self._named():
            return super().numpy()

    def tobytes(self) -> bytes:
        """The bytes; raises as `numpy` does."""
        with self._named():
            return super().tobytes()

    def tofile(self, file: Any) -> None:
        """Copy the bytes to an open file; raises as `numpy` does."""
        try:
            source = os.open(self._file, os.O_RDONLY)
        except OSError as error:
            raise ModelFileError(f"{self._file}: {self.name} cannot be read: {error.strerror}") from error
        os.close(source)
        super().tofile(file)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise ModelFileError(f"{self._file}: {self.name} cannot be read: {error}") from error
