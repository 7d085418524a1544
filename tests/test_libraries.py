"""Where the compiled libraries are, and what to do where they are not.

In processes of their own: another `rms_deploy` is imported there, of which `libraries.py` and `errors.py` are all.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rms_deploy
from rms_deploy import libraries
from rms_deploy.errors import InstallationError
from rms_deploy.libraries import onnxruntime_library, tensorrt_library

SOURCE = Path(libraries.__file__).parent


def test_the_libraries_of_this_installation():
    assert onnxruntime_library().is_file()
    assert onnxruntime_library().is_absolute()
    try:
        assert tensorrt_library().is_file()
    except InstallationError:
        pytest.skip("the plugin library is not built")


def test_those_of_an_editable_installation(monkeypatch, tmp_path):
    """Its package has two folders: the source, and what was built."""
    (tmp_path / "built" / "lib").mkdir(parents=True)
    library = tmp_path / "built" / "lib" / "librms_deploy_onnxruntime.so"
    library.touch()
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path / "source"), str(tmp_path / "built")])
    assert onnxruntime_library() == library


def test_an_installation_puts_no_folder_of_the_source_on_the_path(tmp_path):
    """A folder beside the clone that is named as another package, such as `triton`, is not imported in its place."""
    script = "import sys; print(*sys.path, sep=chr(10))"
    done = subprocess.run(
        [sys.executable, "-E", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    folders = {Path(line).resolve() for line in done.stdout.split("\n") if line}
    assert folders.isdisjoint(Path(__file__).resolve().parents)


@pytest.fixture
def package(tmp_path):
    """A folder with the package, without libraries, to be imported in another process."""
    folder = tmp_path / "tree" / "rms_deploy"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "libraries.py", "errors.py"):
        shutil.copy(SOURCE / name, folder / name)
    return folder


def message(package, *, installed):
    """What a process prints that has no library, and in which pip installed rms-deploy or did not."""
    script = f"""
import importlib.metadata as metadata
if not {installed}:
    def distribution(name):
        raise metadata.PackageNotFoundError(name)
    metadata.distribution = distribution
else:
    metadata.distribution = lambda name: name
from rms_deploy import libraries
from rms_deploy.errors import InstallationError
assert libraries.__file__.startswith({str(package)!r})
for find in (libraries.onnxruntime_library, libraries.tensorrt_library):
    try:
        find()
    except InstallationError as error:
        print(error)
"""
    command = [sys.executable, "-S", "-c", script]  # an editable install would find its own package first
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_installed_package_without_libraries(package):
    assert message(package, installed=True) == [
        "librms_deploy_onnxruntime.so is not built; reinstall rms-deploy with a C++17 compiler at hand: pip install .",
        "librms_deploy_tensorrt.so is not built; reinstall rms-deploy with a CUDA compiler at hand "
        "(pip installs one): pip install .",
    ]


def test_the_source_tree_while_it_is_installed_elsewhere(package):
    root = package.parent
    (root / "pyproject.toml").touch()
    assert message(package, installed=True)[0] == (
        f"librms_deploy_onnxruntime.so is not in {package}: Python imported the source tree, which has no compiled "
        f"libraries, and not the installed rms-deploy; start Python in another folder than {root}"
    )


def test_the_source_tree_without_installation(package):
    root = package.parent
    (root / "pyproject.toml").touch()
    assert message(package, installed=False)[1] == (
        f"librms_deploy_tensorrt.so is not in {package}, the source tree; build it with a CUDA compiler at hand "
        f"(pip installs one): pip install -e {root}"
    )
