"""Our declarations of ONNX Runtime's C interface against the official header, and against themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"
HEADER = PLUGINS / "onnxruntime" / "api.h"

PROGRAM = """
#include <onnxruntime_c_api.h>
#include "onnxruntime/api.h"
namespace ours = rms_deploy::ort;
#define SAME(position, name, result, arguments) \
  static_assert(offsetof(OrtApi, name) == (position) * sizeof(void*), #name " is elsewhere in the official header");
RMS_DEPLOY_ORT_FUNCTIONS(SAME)
#if ORT_API_VERSION >= 24
static_assert(ours::kLaterVersion == 24, "the line above");
RMS_DEPLOY_ORT_LATER_FUNCTIONS(SAME)
#endif
static_assert(sizeof(OrtCustomOp) >= sizeof(ours::CustomOp), "OrtCustomOp has fewer members");
static_assert(sizeof(OrtApiBase) == sizeof(ours::ApiBase), "OrtApiBase");
static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(ours::ApiBase, GetVersionString), "OrtApiBase");
static_assert(int(ORT_FAIL) == ours::kFail && int(ORT_INVALID_ARGUMENT) == ours::kInvalidArgument, "OrtErrorCode");
static_assert(int(ORT_NOT_IMPLEMENTED) == ours::kNotImplemented, "OrtErrorCode");
static_assert(int(INPUT_OUTPUT_REQUIRED) == ours::kRequired, "OrtCustomOpInputOutputCharacteristic");
static_assert(ORT_API_VERSION >= ours::kVersion, "the header is too old for the library");
"""


def members():
    """Of our CustomOp, in order."""
    body = re.search(r"struct CustomOp \{(.*?)\n\};", HEADER.read_text(), re.DOTALL)
    assert body is not None
    return ["version", *re.findall(r"\(\*(\w+)\)\(", body[1])]


def functions():
    return [(int(n), name) for n, name in re.findall(r"\bF\((\d+), (\w+),", HEADER.read_text())]


def test_the_positions_are_in_order_and_each_is_used():
    positions = [position for position, _ in functions()]
    assert positions == sorted(set(positions))
    sources = "".join(path.read_text() for path in HEADER.parent.glob("*.*") if path != HEADER)
    assert [name for _, name in functions() if name not in sources] == []


def test_every_declaration_matches_the_official_header(tmp_path):
    folder, compiler = os.environ.get("ONNXRUNTIME_INCLUDE_DIR"), shutil.which(os.environ.get("CXX", "c++"))
    if not folder:
        pytest.skip("ONNXRUNTIME_INCLUDE_DIR is not set to the folder of onnxruntime_c_api.h")
    if compiler is None:
        pytest.skip("no C++ compiler")
    checks = "".join(
        f'static_assert(offsetof(OrtCustomOp, {name}) == offsetof(ours::CustomOp, {name}), "{name}");\n'
        for name in members()
    )
    source = tmp_path / "check.cpp"
    source.write_text(PROGRAM + checks)
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{folder}", f"-I{PLUGINS}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
