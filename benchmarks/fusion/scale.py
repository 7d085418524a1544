"""How long `fuse` takes on deep graphs, and how much memory on large weights.

    python benchmarks/fusion/scale.py --output benchmarks/fusion/results

time    decoders of 5,000 to 20,000 nodes: the layers of the built-in decoder, as torch exports it, repeated. One core,
        no verification; the median of five.
memory  a model with 14 GB of weights in a sparse file beside it, of which nothing may be read into memory, copied or
        changed: the peak of a process that fuses it from file to file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx
import onnx.helper
import onnx_ir as ir

NODES = (5_000, 10_000, 20_000)
_REPEATS = 5
_WIDTH = 4096
_TENSOR = _WIDTH * _WIDTH * 4  # bytes


def deepened(model: onnx.ModelProto, nodes: int) -> onnx.ModelProto:
    """`model` with its layers repeated until it has so many nodes; each copy has weights of its own."""
    producers = {name: node for node in model.graph.node for name in node.output}

    def normalised(mean: onnx.NodeProto) -> str:
        value = producers[mean.input[0]].input[0]
        while value in producers and producers[value].op_type == "Cast":
            value = producers[value].input[0]
        return value

    means = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    start, end = normalised(means[0]), normalised(means[-1])
    needed, wanted = set(), [end]
    while wanted:
        name = wanted.pop()
        if name not in needed and name != start and name in producers:
            needed.add(name)
            wanted += producers[name].input
    inside = {start}
    layers = []
    for node in model.graph.node:
        if inside & set(node.input) and needed & set(node.output):
            inside |= set(node.output)
            layers.append(node)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    own = {name for node in layers for name in node.input if name in weights}
    position = max(i for i, node in enumerate(model.graph.node) if node in layers) + 1
    before, after = list(model.graph.node)[:position], list(model.graph.node)[position:]
    hidden = end
    copies = -(-max(0, nodes - len(model.graph.node)) // len(layers))
    for number in range(copies):
        names = {name: f"{name}.{number}" for name in inside | own} | {start: hidden}
        for node in layers:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{node.name}.{number}"
            copy.input[:] = [names.get(name, name) for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            before.append(copy)
        for name in own:
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(weights[name])
            tensor.name = names[name]
        hidden = names[end]
    for node in after:
        node.input[:] = [hidden if name == end else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(before + after)
    return model


def time_of(path: Path) -> dict[str, Any]:
    """Of a decoder in a file, in this process, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from rms_deploy.fusion.fuse import fuse

    model = ir.load(path)
    nodes = sum(1 for _ in model.graph)
    seconds, busy = [], []
    for _ in range(_REPEATS):
        began, worked = time.perf_counter(), time.process_time()
        result = fuse(model, verify=False)
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    began = time.perf_counter()
    fuse(path, path.with_suffix(".fused.onnx"), verify=False)
    whole = time.perf_counter() - began
    return {
        "nodes": nodes,
        "norms": len(result.norms),
        "near_misses": len(result.near_misses),
        "seconds": statistics.median(seconds),
        "slowest": max(seconds),
        "processor_seconds": statistics.median(busy),
        "seconds_from_file_to_file": whole,
    }


def large_model(folder: Path, size: int) -> Path:
    """Norms and matrices in turn, all weights in a sparse file of `size` bytes."""
    count = size // _TENSOR
    nodes, tensors = [], []

    def weight(name: str, shape: list[int], offset: int) -> None:
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=onnx.TensorProto.FLOAT)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        length = 4 * _WIDTH * (_WIDTH if len(shape) == 2 else 1)
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)

    two, eps = (onnx.helper.make_tensor(n, onnx.TensorProto.FLOAT, [], [v]) for n, v in (("two", 2.0), ("eps", 1e-6)))
    last = onnx.helper.make_tensor("last", onnx.TensorProto.INT64, [1], [-1])
    x = "x"
    for i in range(count):
        weight(f"w{i}", [_WIDTH, _WIDTH], i * _TENSOR)
        weight(f"g{i}", [_WIDTH], i * _TENSOR)
        for kind, inputs, output in (
            ("Pow", [x, "two"], f"q{i}"),
            ("ReduceMean", [f"q{i}", "last"], f"m{i}"),
            ("Add", [f"m{i}", "eps"], f"e{i}"),
            ("Sqrt", [f"e{i}"], f"r{i}"),
            ("Div", [x, f"r{i}"], f"n{i}"),
            ("Mul", [f"n{i}", f"g{i}"], f"y{i}"),
            ("MatMul", [f"y{i}", f"w{i}"], f"p{i}"),
            ("Add", [x, f"p{i}"], f"x{i}"),
        ):
            nodes.append(onnx.helper.make_node(kind, inputs, [output], name=output))
        x = f"x{i}"
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["b", "s", _WIDTH]) for n in ("x", x)]
    graph = onnx.helper.make_graph(nodes, "large", ends[:1], ends[1:], [two, eps, last, *tensors])
    path = folder / "large.onnx"
    path.write_bytes(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
        ).SerializeToString()
    )
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(count * _TENSOR)
    return path


def peak_megabytes() -> float:
    """Of this process. (What getrusage says includes the process that started it.)"""
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def memory_of(path: Path, verify: bool) -> dict[str, Any]:
    """Of fusing a file with external data, in this process."""
    from rms_deploy.fusion.fuse import fuse

    data = path.with_name("weights.bin")
    before = data.stat()
    imported = peak_megabytes()
    began = time.perf_counter()
    result = fuse(path, path.with_name("fused.onnx"), verify=verify)
    seconds = time.perf_counter() - began
    peak = peak_megabytes()
    after = data.stat()
    fused = onnx.load(path.with_name("fused.onnx"), load_external_data=False)
    places = {e.value for t in fused.graph.initializer for e in t.external_data if e.key == "location"}
    return {
        "gigabytes_of_data": before.st_size / 1e9,
        "norms": len(result.norms),
        "near_misses": len(result.near_misses),
        "seconds": seconds,
        "peak_megabytes": peak,
        "of_which_imports": imported,
        "data_untouched": (before.st_mtime_ns, before.st_blocks, before.st_size)
        == (after.st_mtime_ns, after.st_blocks, after.st_size),
        "still_referenced": places == {"weights.bin"},
        "fused_file_bytes": path.with_name("fused.onnx").stat().st_size,
    }


def _child(what: str, path: Path) -> dict[str, Any]:
    """Each measurement in a process of its own: peaks of memory do not come down again."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(gigabytes: float) -> dict[str, Any]:
    from rms_deploy.exporter.export import export

    report: dict[str, Any] = {"time": [], "memory": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        print("exporting the built-in decoder", file=sys.stderr)
        exported = ir.to_proto(export("llama-tiny", norm="decomposed").model)
        for nodes in NODES:
            print(f"{nodes} nodes", file=sys.stderr)
            copy = onnx.ModelProto()
            copy.CopyFrom(exported)
            onnx.save(deepened(copy, nodes), folder / "deep.onnx")
            report["time"].append(_child("time", folder / "deep.onnx"))
        print(f"{gigabytes} GB of weights", file=sys.stderr)
        large = large_model(folder, int(gigabytes * 1e9))
        for name in ("memory", "memory-verify"):
            report["memory"][name] = _child(name, large)
    return report


def table(report: dict[str, Any]) -> str:
    lines = [
        "| nodes | norms | near misses | fuse, s | slowest of 5, s | processor, s | file to file, s |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {t['nodes']} | {t['norms']} | {t['near_misses']} | {t['seconds']:.2f} | {t['slowest']:.2f} | "
        f"{t['processor_seconds']:.2f} | "
        f"{t['seconds_from_file_to_file']:.2f} |"
        for t in report["time"]
    ]
    head = ("external data, GB", "verification", "norms", "s", "peak, MB", "imports alone, MB", "data untouched")
    lines += ["", f"| {' | '.join(head)} | still referenced |"]
    lines += ["|--:|---|--:|--:|--:|--:|---|---|"]
    for name, m in report["memory"].items():
        lines.append(
            f"| {m['gigabytes_of_data']:.1f} | {'yes' if name.endswith('verify') else 'no'} | {m['norms']} | "
            f"{m['seconds']:.2f} | {m['peak_megabytes']:.0f} | {m['of_which_imports']:.0f} | "
            f"{'yes' if m['data_untouched'] else 'NO'} | {'yes' if m['still_referenced'] else 'NO'} |"
        )
    lines += ["", f"{report['date']}, {report['cpu']}, Python {report['python']}: `{report['command']}`", ""]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=14.0, help="of external data")
    parser.add_argument("--output", type=Path, help="folder for scale.json and scale.md")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, path = options.child[0], Path(options.child[1])
        print(json.dumps(time_of(path) if what == "time" else memory_of(path, verify=what == "memory-verify")))
        return 0
    from compare import cpu

    report = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "python": platform.python_version(),
        "command": shlex.join(["python", "benchmarks/fusion/scale.py", *sys.argv[1:]]),
        **measure(options.gigabytes),
    }
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "scale.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.output / "scale.md").write_text(table(report))
    print(json.dumps(report, indent=1) if options.json else table(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
