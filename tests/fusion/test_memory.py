"""A model whose weights are larger than memory: they are neither read nor copied."""

from __future__ import annotations

import subprocess
import sys

import onnx
import onnx.helper as oh
import pytest

from rms_deploy.ops.forms import NormForm

H = 4096
LAYERS = 223
SIZE = 14 * 2**30
FEW = 12
"""Layers, of 64 MiB each, where the weights are copied."""

FUSE = """
import re, sys
from pathlib import Path
from rms_deploy.fusion.fuse import fuse
result = fuse(sys.argv[1], sys.argv[2], target=sys.argv[3], save_as_external="--external" in sys.argv)
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(len(result.norms), int(peak) // 1024)
"""
"""In a process of its own. What getrusage says includes the process that started it."""


def weight(name, dims, offset):
    tensor = onnx.TensorProto(name=name, data_type=1, dims=dims, data_location=1)
    length = 4 * dims[0] * (dims[1] if len(dims) > 1 else 1)
    for key, value in (("location", "w.bin"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("large"), LAYERS)


def decoder(folder, layers):
    with (folder / "w.bin").open("wb") as file:
        file.truncate(SIZE)  # sparse: it takes no room on the disk
    nodes, weights, x = [], [], "x"
    for i in range(layers):
        nodes += [
            oh.make_node("Mul", [x, x], [f"q{i}"]),
            oh.make_node("ReduceMean", [f"q{i}", "last"], [f"m{i}"]),
            oh.make_node("Add", [f"m{i}", "eps"], [f"e{i}"]),
            oh.make_node("Sqrt", [f"e{i}"], [f"r{i}"]),
            oh.make_node("Div", [x, f"r{i}"], [f"n{i}"]),
            oh.make_node("Mul", [f"n{i}", f"s{i}"], [f"y{i}"]),
            oh.make_node("MatMul", [f"y{i}", f"w{i}"], [f"h{i}"]),
            oh.make_node("Add", [x, f"h{i}"], [f"x{i}"]),
        ]
        x = f"x{i}"
        weights += [weight(f"w{i}", [H, H], 4 * H * H * i), weight(f"s{i}", [H], 4 * H * (H * LAYERS + i))]
    weights += [oh.make_tensor("last", 7, [1], [-1]), oh.make_tensor("eps", 1, [], [1e-5])]
    inputs, outputs = ([oh.make_tensor_value_info(name, 1, ["b", "s", H])] for name in ("x", x))
    graph = oh.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 18)], ir_version=8), folder / "m.onnx")
    return folder / "m.onnx"


def fused(model, output, *options):
    command = [sys.executable, "-c", FUSE, str(model), str(output), *options]
    norms, megabytes = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    return norms, megabytes


@pytest.mark.parametrize("target", NormForm)
def test_weights_of_14_gigabytes_stay_where_they_are(target, model):
    data = model.with_name("w.bin")
    before = data.stat()
    output = model.with_name(f"{target}.onnx")
    norms, megabytes = fused(model, output, target)
    assert norms == LAYERS
    assert megabytes < 1024
    assert (data.stat().st_mtime_ns, data.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert not list(model.parent.glob("*.data"))
    tensors = {t.name: t for t in onnx.load(output, load_external_data=False).graph.initializer}
    assert {entry.key: entry.value for entry in tensors["w7"].external_data}["location"] == "w.bin"


def test_weights_that_are_copied_are_not_in_memory(tmp_path):
    model = decoder(tmp_path, FEW)
    norms, megabytes = fused(model, tmp_path / "out.onnx", "fused", "--external")
    assert norms == FEW
    written = (tmp_path / "out.onnx.data").stat().st_size
    assert written == FEW * (4 * H * H + 4 * H)
    assert megabytes * 2**20 < written / 2
