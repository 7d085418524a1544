"""A machine without a C++ compiler is told so in one sentence of ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake on PATH")
def test_no_compiler(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cmake", "make", "ninja", "uname"):
        if (found := shutil.which(name)) is not None:
            (tools / name).symlink_to(Path(found).resolve())
    command = [tools / "cmake", "-S", ROOT, "-B", tmp_path / "build"]
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    message = "rms-deploy: no C++ compiler was found; install g++ or clang++ with C++17, or name one in CXX"
    assert message in " ".join(done.stderr.split())
    assert done.stderr.count("CMake Error") == 1
