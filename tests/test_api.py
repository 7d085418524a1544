"""What `rms_deploy` offers: one list in the code, for type checkers and in docs/api.md, and each name is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rms_deploy

ROOT = Path(__file__).parents[1]
SOURCE = ast.parse((ROOT / "rms_deploy" / "__init__.py").read_text())
HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "ray", "torch", "tensorrt", "tensorrt_rtx", "click", "rich")


def homes() -> dict[str, str]:
    """The module of each name that a type checker sees."""
    (checked,) = [node for node in SOURCE.body if isinstance(node, ast.If)]
    imports = [node for node in [*SOURCE.body, *checked.body] if isinstance(node, ast.ImportFrom)]
    found = {alias.name: node.module for node in imports for alias in node.names}
    return {name: module for name, module in found.items() if module not in ("__future__", "typing")}


def test_type_checkers_and_users_find_the_same_names() -> None:
    assert {*homes(), "__version__"} == set(rms_deploy.__all__)
    assert dir(rms_deploy) == sorted(rms_deploy.__all__)


@pytest.mark.parametrize("name", rms_deploy.__all__)
def test_every_name_is_what_its_module_has(name) -> None:
    value = getattr(rms_deploy, name)
    if name not in ("__version__", "errors"):
        assert value is getattr(sys.modules[homes()[name]], name)


def test_every_error_is_public() -> None:
    assert {*rms_deploy.errors.__all__, "errors"} - set(rms_deploy.__all__) == {"one_line"}


def test_the_page_has_every_name() -> None:
    names = re.findall(r"^::: rms_deploy\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert len(set(names)) == len(names)
    assert set(names) - {"nn"} == set(rms_deploy.__all__) - {"__version__", "errors"}


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="module 'rms_deploy' has no attribute 'fuze'"):
        rms_deploy.fuze  # noqa: B018


def test_importing_it_loads_nothing_else() -> None:
    code = "import sys, rms_deploy; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(HEAVY) & set(loaded)
    assert [name for name in loaded if name.startswith("rms_deploy.")] == ["rms_deploy.errors"]
