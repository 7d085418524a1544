"""An environment with the tools, made once for all tests of this folder."""

from __future__ import annotations

import site
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The Python of a virtual environment that has what requirements.txt says, and else what this one has."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    around = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (packages / "around.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in around))
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q", "-r", REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return python
