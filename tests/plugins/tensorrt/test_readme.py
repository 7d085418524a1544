"""The README of the plugin: its Python runs, its C++ compiles, its tables say what the contract says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from rms_deploy.ops.contract import OPS, PARTIAL_RMS_NORM, RMS_NORM_QUANTIZE

from .networks import node_model

README = (Path(__file__).parents[3] / "plugins" / "tensorrt" / "README.md").read_text()
FIELDS = {"int": "`kINT64`", "ints": "`kINT64`", "float": "`kFLOAT32`"}


@pytest.mark.usefixtures("rtx")
def test_the_python_builds_an_engine(library, tmp_path):
    (block,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    onnx.save(node_model(shape=(2, 64)), tmp_path / "fused.onnx")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert library.read_bytes() in (tmp_path / "model.engine").read_bytes()


@pytest.mark.network
def test_the_cpp_compiles(gxx, headers, tmp_path):
    (block,) = re.findall(r"```cpp\n(.+?)```", README, re.DOTALL)
    parameters = "nvinfer1::IBuilder* builder, nvinfer1::IBuilderConfig* config"
    (tmp_path / "use.cpp").write_text(f"#include <NvInfer.h>\nvoid use({parameters}) {{\n{block}}}\n")
    includes = [f"-I{Path(__file__).parent / 'host'}", f"-isystem{headers}"]
    command = [gxx, "-std=c++17", "-fsyntax-only", "-Wall", "-Werror", *includes, str(tmp_path / "use.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_table_has_every_attribute():
    rows = re.findall(r"^\| `(\w+)` \| (`k\w+`)", README, re.MULTILINE)
    attributes = dict.fromkeys(attribute for op in (PARTIAL_RMS_NORM, RMS_NORM_QUANTIZE) for attribute in op.attributes)
    assert rows == [(attribute.name, FIELDS[attribute.kind]) for attribute in attributes]
    assert {attribute.name for op in OPS.values() for attribute in op.attributes} == {name for name, _ in rows}
