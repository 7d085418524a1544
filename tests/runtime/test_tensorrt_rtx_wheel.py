"""The wheel's missing link: it kills the process, and mending it in either way saves it.

The wheel's own folder is left alone: a folder of links to its libraries stands for it, as the parser takes the folder
that it was loaded through for its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from rms_deploy.errors import InstallationError
from rms_deploy.runtime import tensorrt_rtx_wheel
from rms_deploy.runtime.tensorrt_rtx_wheel import mend

PLUGIN = Path(__file__).with_name("rtx_plugin.py")


@pytest.fixture
def wheel(tmp_path):
    """A folder to import `tensorrt_rtx_libs` from, as the wheel brings it: without the link."""
    spec = find_spec("tensorrt_rtx_libs")
    if spec is None:
        pytest.skip("tensorrt-rtx-cu13 is not installed")
    real = Path(spec.submodule_search_locations[0])
    package = tmp_path / "site" / "tensorrt_rtx_libs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text((real / "__init__.py").read_text())
    for library in real.glob("*.so.*"):
        (package / library.name).symlink_to(library)
    return package


def parse_a_plugin(wheel, *, before=""):
    script = f"{before}\nimport runpy; runpy.run_path({str(PLUGIN)!r}, run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(wheel.parent)}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)


MEND = "from rms_deploy.runtime.tensorrt_rtx_wheel import mend; mend()"
READ_ONLY = f"""
from pathlib import Path
def refuse(*_): raise PermissionError
real, Path.symlink_to = Path.symlink_to, refuse
from rms_deploy.runtime import tensorrt_rtx_wheel as wheel
load = wheel._load_from_private_folder
def private(*arguments):
    Path.symlink_to = real
    load(*arguments)
wheel._load_from_private_folder = private
{MEND.partition("; ")[0]}; mend()
"""


def test_the_wheel_as_it_is_kills_the_process(wheel):
    """If this fails, the wheel is mended at its source, and all of this can go."""
    done = parse_a_plugin(wheel)
    assert done.returncode == -signal.SIGABRT
    assert "terminate called" in done.stderr


def test_mended_in_its_folder(wheel):
    done = parse_a_plugin(wheel, before=MEND)
    assert (done.returncode, done.stdout) == (0, "1 plugin layer\n"), done.stderr
    assert (wheel / "libtensorrt_rtx.so").readlink() == Path("libtensorrt_rtx.so.1")
    assert not [path for path in wheel.iterdir() if path.name.startswith(".")]


def test_mended_in_a_private_folder_where_its_own_is_read_only(wheel, tmp_path):
    done = parse_a_plugin(wheel, before=f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}\n{READ_ONLY}")
    assert (done.returncode, done.stdout) == (0, "1 plugin layer\n"), done.stderr
    assert not (wheel / "libtensorrt_rtx.so").exists()
    assert not list(tmp_path.glob("rms-deploy-*")), "the private folder outlives the process"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A wheel's folder that this process takes for it; its libraries are not loaded."""
    folder = tmp_path / "libs"
    folder.mkdir()
    (folder / "libtensorrt_rtx.so.2").touch()
    (folder / "libtensorrt_onnxparser_rtx.so.2").touch()
    monkeypatch.setattr(tensorrt_rtx_wheel, "link_of", lambda: folder / "libtensorrt_rtx.so")
    return folder


def test_a_link_that_is_there_is_left(fake):
    (fake / "libtensorrt_rtx.so").write_text("own")
    mend()
    assert (fake / "libtensorrt_rtx.so").read_text() == "own"


def test_a_link_to_an_older_library_is_replaced(fake):
    (fake / "libtensorrt_rtx.so").symlink_to("libtensorrt_rtx.so.1")
    mend()
    assert (fake / "libtensorrt_rtx.so").readlink() == Path("libtensorrt_rtx.so.2")


@pytest.mark.usefixtures("fake")
def test_too_late_for_a_private_folder(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", object())
    with pytest.raises(InstallationError, match=r"is missing and cannot be written.*run: ln -s libtensorrt_rtx\.so\.2"):
        mend()


def test_nothing_to_do_without_the_wheel(monkeypatch):
    monkeypatch.setattr(tensorrt_rtx_wheel, "link_of", lambda: None)
    mend()
