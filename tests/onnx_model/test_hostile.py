"""Files that mutation and malice made: each gives a right result, or one line, within ten seconds.

`hostile/` holds them. `C_bytes` and `C_struct` are mutations of small models with norms, by byte and by structure; the
others have the name of what is in them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from rms_deploy.errors import RmsDeployError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.unfuse import unfuse

FILES = sorted(Path(__file__).with_name("hostile").glob("*.onnx"))
VERSION = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])


def assert_one_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert str(error).encode()


@contextmanager
def ten_seconds() -> Iterator[None]:
    def fails(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fails)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def session_of(path: Path) -> onnxruntime.InferenceSession | None:
    """None: ONNX Runtime refuses the file, or cannot name what is in it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:  # its own, and UnicodeDecodeError
        return None


def outputs_of(session: onnxruntime.InferenceSession) -> list[Any] | None:
    """Of ones and twos; None: it does not run."""
    generator = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) and dim >= 0 else 2 for dim in value.shape]
        name = value.type.removeprefix("tensor(").removesuffix(")")
        dtype = {"float": np.float32, "bool": np.bool_, "double": np.float64}.get(name) or np.dtype(name)
        feeds[value.name] = generator.integers(1, 3, shape).astype(dtype)
    try:
        return session.run(None, feeds)
    except Exception:
        return None


def is_valid(path: Path) -> bool:
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception:
        return False
    return True


def check(path: Path, output: Path, command: Callable[[Path, Path], object]) -> None:
    try:
        with ten_seconds():
            command(path, output)
    except RmsDeployError as error:
        assert_one_line(error)
        assert not list(output.parent.iterdir())
        return
    session = session_of(path)
    if session is None:
        return
    if path.stem == "V1_empty_native" and VERSION < (1, 24):
        pytest.skip("ONNX Runtime 1.23 loses the output of a Mul with an empty initializer")
    written = session_of(output)
    assert written is not None, "ONNX Runtime loads the file, and not what it became"
    if is_valid(path):
        onnx.checker.check_model(output, full_check=True)
    before, after = outputs_of(session), outputs_of(written)
    if before is None:
        return
    assert after is not None, "ONNX Runtime runs the file, and not what it became"
    for a, b in zip(before, after, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fuse(tmp_path: Path, path: Path) -> None:
    check(path, tmp_path / "out.onnx", fuse)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_unfuse(tmp_path: Path, path: Path) -> None:
    check(path, tmp_path / "out.onnx", unfuse)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_inspect(path: Path) -> None:
    try:
        with ten_seconds():
            inspect(path)
    except RmsDeployError as error:
        assert_one_line(error)


def test_the_files_are_there() -> None:
    assert len(FILES) == 64
