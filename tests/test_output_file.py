"""Files are written whole or not at all, and what cannot be written is said before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rms_deploy.errors import OutputError
from rms_deploy.output_file import atomic_path, check_output


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    target.write_text("before")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert target.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.onnx"]


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "out.onnx", tmp_path / "link.onnx"
    target.touch(mode=0o600)
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("target", "message"), [("", "is a directory; give a file name"), ("none/out.onnx", "none does not exist")]
)
def test_an_unwritable_target(tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / target)


def test_a_pipe_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is a device or a pipe"):
        check_output(tmp_path / "pipe")
