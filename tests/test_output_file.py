"""Output files: whole or not at all, and one line for every place that cannot be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rms_deploy.errors import OutputError
from rms_deploy.output_file import atomic_path, check_output, create_folder, locked, work_folder


def refusal(path: Path) -> str:
    with pytest.raises(OutputError) as caught:
        check_output(path)
    message = str(caught.value)
    assert "\n" not in message
    message.encode()  # it can be printed
    return message


def test_a_folder_is_created_once(tmp_path):
    create_folder(tmp_path / "a" / "b")
    create_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file; give the name of a folder"):
        create_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be created: Not a directory"):
        create_folder(tmp_path / "file" / "c")


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
        temporary.write_text("after")
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("target", "message"), [("", "is a directory; give a file name"), ("none/out.onnx", "none does not exist")]
)
def test_an_unwritable_target(tmp_path: Path, target: str, message: str) -> None:
    assert message in refusal(tmp_path / target)


def test_the_suffix_stays(tmp_path: Path) -> None:
    """Some writers choose the format by it."""
    with atomic_path(tmp_path / "out.onnx") as temporary:
        assert temporary.name == "out.onnx"
        temporary.touch()


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No space left on device"), atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_other_errors_of_a_writer_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "none").read_text()


def test_a_pipe_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a device or a pipe" in refusal(tmp_path / "pipe")


def test_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "a")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "a" / "model.onnx")


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128, f"{'n' * 256}/model.onnx"])
def test_a_name_that_is_too_long(tmp_path: Path, name: str) -> None:
    assert "File name too long" in refusal(tmp_path / name)


def test_the_longest_name(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    check_output(target)
    with atomic_path(target) as temporary:
        temporary.touch()
    assert target.exists()


@pytest.mark.parametrize("name", ["a\0b", os.fsdecode(b"caf\xe9.onnx")])
def test_a_name_that_is_no_text(tmp_path: Path, name: str) -> None:
    assert "give one in UTF-8" in refusal(tmp_path / name)


def test_a_link_to_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    check_output(tmp_path / "link")
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_threads_write_one_file_at_once(tmp_path: Path) -> None:
    target, barrier, errors = tmp_path / "out", threading.Barrier(8), []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                barrier.wait()
                with atomic_path(target) as temporary:
                    temporary.write_text(str(number) * 1000)
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert target.read_text() in {str(number) * 1000 for number in range(8)}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from rms_deploy.output_file import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("before")
    assert subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False).returncode < 0
    assert len(list(tmp_path.iterdir())) == 2
    with work_folder(tmp_path) as living:  # another one's, who is still at work
        with atomic_path(target) as temporary:
            temporary.write_text("after")
        assert sorted(tmp_path.iterdir()) == sorted([living, target])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert target.read_text() == "after"


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the removal of what killed processes left."""

    def fails(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fails)
    with locked(tmp_path) as is_locked:
        assert not is_locked
    with work_folder(tmp_path) as first, work_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
    assert not list(tmp_path.iterdir())
