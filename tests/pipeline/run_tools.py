"""Run each tool on two models, in the environment of requirements.txt: python run_tools.py FOLDER

FOLDER holds original.onnx and fused.onnx, whose one input is input_ids. Each tool writes TOOL-original.onnx and
TOOL-fused.onnx there. tools.json gets the version of each tool, and what it said where it failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

TOOLS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {}
"""By name: the package that it comes from, and what it does to a file."""


def tool(name: str, package: str):
    def register(function):
        TOOLS[name] = (package, function)
        return function

    return register


@tool("onnxruntime.transformers.float16", "onnxruntime")
def _(source, target):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source)), target)


@tool("quantize_dynamic", "onnxruntime")
def _(source, target):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target)


class Tokens:
    """Calibration data."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.batches = iter([{"input_ids": generator.integers(0, 64, (1, 8))} for _ in range(4)])

    def get_next(self):
        return next(self.batches, None)


@tool("quantize_static (QDQ)", "onnxruntime")
def _(source, target):
    from onnxruntime.quantization import quantize_static

    quantize_static(source, target, Tokens())


@tool("quantize_static (QDQ, MatMul only)", "onnxruntime")
def _(source, target):
    from onnxruntime.quantization import quantize_static

    quantize_static(source, target, Tokens(), op_types_to_quantize=["MatMul"])


def _four_bits(source, target, quant_format):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, quant_format=quant_format)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


@tool("MatMulNBits", "onnxruntime")
def _(source, target):
    from onnxruntime.quantization.quant_utils import QuantFormat

    _four_bits(source, target, QuantFormat.QOperator)


@tool("MatMulNBits (QDQ)", "onnxruntime")
def _(source, target):
    from onnxruntime.quantization.quant_utils import QuantFormat

    _four_bits(source, target, QuantFormat.QDQ)


@tool("optimized_model_filepath", "onnxruntime")
def _(source, target):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@tool("onnxconverter_common.float16", "onnxconverter-common")
def _(source, target):
    from onnxconverter_common.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source)), target)


@tool("onnxsim.simplify", "onnxsim")
def _(source, target):
    import onnxsim

    model, ok = onnxsim.simplify(onnx.load(source))
    assert ok
    onnx.save(model, target)


@tool("onnxslim.slim", "onnxslim")
def _(source, target):
    import onnxslim

    onnxslim.slim(str(source), str(target))


@tool("onnxslim.slim (fp16)", "onnxslim")
def _(source, target):
    import onnxslim

    onnxslim.slim(str(source), str(target), dtype="fp16")


@tool("onnx.version_converter", "onnx")
def _(source, target):
    import onnx.version_converter

    onnx.save(onnx.version_converter.convert_version(onnx.load(source), 23), target)


@tool("onnx.compose.add_prefix", "onnx")
def _(source, target):
    import onnx.compose

    onnx.save(onnx.compose.add_prefix(onnx.load(source), "a/", rename_inputs=False, rename_outputs=False), target)


@tool("onnx.compose.merge_models", "onnx")
def _(source, target):
    """The model, and another that norms its logits; the first has the bodies for both."""
    import onnx.compose

    first, second = onnx.load(source), onnx.load(source.with_name(f"head-{source.name}"))
    second.ir_version = first.ir_version
    del second.functions[:]
    onnx.save(onnx.compose.merge_models(first, second, io_map=[("logits", "head_x")]), target)


@tool("onnx.utils.extract_model", "onnx")
def _(source, target):
    import onnx.utils

    onnx.utils.extract_model(source, target, ["input_ids"], ["logits"])


@tool("onnx_graphsurgeon.cleanup", "onnx-graphsurgeon")
def _(source, target):
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(onnx.load(source))
    onnx.save(gs.export_onnx(graph.cleanup(remove_unused_node_outputs=True).toposort()), target)


def main(folder: Path) -> None:
    done = {}
    for name, (package, run) in TOOLS.items():
        done[name] = {"version": f"{package} {version(package)}"}
        for kind in ("original", "fused"):
            done[name][kind] = said(run, folder / f"{kind}.onnx", folder / f"{file_name(name)}-{kind}.onnx")
    (folder / "tools.json").write_text(json.dumps(done))


def said(run: Callable[[Path, Path], None], source: Path, target: Path) -> str:
    """Why it failed; empty: it did not."""
    try:
        run(source, target)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def file_name(tool: str) -> str:
    """Of the files that a tool writes."""
    return "".join(c if c.isalnum() else "_" for c in tool)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
