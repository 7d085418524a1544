"""The points of a sweep in a file, one JSON line each as it is measured, so that a sweep that ended early goes on."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from rms_deploy.errors import InputError, OutputError
from rms_deploy.output_file import check_output

__all__ = ["SweepFile"]

FORMAT: Final = 1


class SweepFile:
    """The file, open for this process alone.

    Its first line is {"format": 1, "settings": {...}}. Each line after it is {"key": {...}, "result": {...}}: what was
    measured, and the result of `bench` for it. A line that was cut when its writer ended is dropped.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Open the file, or begin it.

        Args:
            path: of the file.
            settings: of the sweep. Points that were measured with others are not to be mixed with them.

        Raises:
            InputError: it is something else, holds a sweep with other settings, or another process has it.
            OutputError: it cannot be written.
        """
        check_output(path)
        self._path = Path(path)
        try:
            self._file: IO[bytes] = self._path.open("a+b")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._results = self._read(json.loads(json.dumps(settings)))
        except BlockingIOError:
            self._file.close()
            raise InputError(f"{path}: another sweep is writing to it; give another name") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SweepFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The result of a point; None: it has none yet."""
        return self._results.get(_name(key))

    def add(self, key: dict[str, Any], result: dict[str, Any]) -> None:
        """Write the result of a point, and wait until the disk has it.

        Raises:
            OutputError: the disk is full or broken.
        """
        self._results[_name(key)] = result
        self._write({"key": key, "result": result})

    def _read(self, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        if not content:
            self._write({"format": FORMAT, "settings": settings})
            return {}
        whole = content[: content.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            results = {_name(point["key"]): point["result"] for point in lines[1:]}
            given, written = lines[0]["format"], lines[0]["settings"]
        except (ValueError, KeyError, TypeError, IndexError):
            raise InputError(f"{self._path}: holds no points of a sweep; give another name") from None
        if given != FORMAT:
            raise InputError(f"{self._path}: has format {given!r}, this version reads {FORMAT}; give another name")
        for name in settings | written:
            if settings.get(name) != written.get(name):
                raise InputError(
                    f"{self._path}: was measured with `{name}` {written.get(name)!r}, and {settings.get(name)!r} is "
                    "asked for; give another name"
                )
        self._file.truncate(len(whole))
        return results

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}") from error


def _name(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
