"""The model as it was given: what it computes, and what else it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import helper

import rms_deploy

from .evaluator import Arrays, evaluate
from .running import differs, load, run

__all__ = [
    "OracleError",
    "Original",
    "checks",
    "element_of",
    "is_about_untouched",
    "is_own_lie",
    "loads",
    "optimiser_differs",
    "why_not",
]


class OracleError(AssertionError):
    """The product did what it must not; the first argument is the kind, the second says more."""


@dataclass
class Original:
    """The model as it was given, and what it computes."""

    path: Path
    feeds: dict[str, NDArray[Any]]
    element: np.dtype[Any]
    loads: dict[bool, bool] = field(default_factory=dict)
    """Whether ONNX Runtime loads it: with our library, and without."""
    valid: bool = False
    """Whether onnx's checker passes it."""
    expected: Arrays | None = None
    by: str = ""

    def examine(self) -> None:
        """Load and run it; any refusal is the file's own matter."""
        library = rms_deploy.onnxruntime_library()
        self.valid = checks(self.path)
        for with_library in (False, True):
            try:
                session = load(self.path, library=library if with_library else None, optimize=False)
                self.loads[with_library] = True
            except Exception:
                self.loads[with_library] = False
                continue
            try:
                result = run(session, self.feeds)
            except Exception:
                continue
            if self.expected is None:
                self.expected, self.by = result, "onnxruntime"
            elif why := differs(result, self.expected, original=self.path, feeds=self.feeds, element=self.element):
                raise OracleError("kernel and body differ", why)

    def evaluate(self) -> None:
        """By onnx's evaluator, where ONNX Runtime did not run it."""
        if self.expected is None:
            try:
                self.expected, self.by = evaluate(self.path, self.feeds), "evaluator"
            except Exception:
                self.expected = None


def checks(path: Path) -> bool:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception:
        return False
    return True


def is_own_lie(original: Path, output: Path, holds: Callable[[Path], bool]) -> bool:
    """Whether `holds` of the output without what the original declares too, where nothing told it there.

    An operator without a schema hides that a declared shape is wrong, or that the branches of an If differ in rank, and
    an older opset that an axis is wrong. Functions are not looked at in a file of IR version 7 or
    older, or where ONNX's domain is spelled ai.onnx.
    """
    own = {value.SerializeToString() for graph in _graphs(original) for value in (*graph.value_info, *graph.output)}
    model = onnx.load(output, load_external_data=False)
    for graph in _graphs(model):
        kept = [value for value in graph.value_info if value.SerializeToString() not in own]
        del graph.value_info[:]
        graph.value_info.extend(kept)
        for value in graph.output:
            if value.SerializeToString() in own:
                for dim in value.type.tensor_type.shape.dim:
                    dim.Clear()
    plain = output.with_name("without.onnx")
    plain.write_bytes(model.SerializeToString())
    return holds(plain) or _is_about_branches(model, plain) or not _checks_raised(original, model)


def _is_about_branches(model: onnx.ModelProto, plain: Path) -> bool:
    """Whether the checker refuses an If although the file declares no shape."""
    for graph in _graphs(model):
        del graph.value_info[:]
    plain.write_bytes(model.SerializeToString())
    return "Inference error(s): (op_type:If" in why_not(plain)


def _graphs(model: Path | onnx.ModelProto) -> list[onnx.GraphProto]:
    """The main graph, and the bodies inside it."""
    proto = onnx.load(model, load_external_data=False) if isinstance(model, Path) else model
    graphs = [proto.graph]
    for graph in graphs:  # grows
        graphs.extend(attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    return graphs


def _checks_raised(original: Path, model: onnx.ModelProto) -> bool:
    """Whether the checker passes the original in the IR version and opset of `model`, where it looks more closely."""
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    given = onnx.load(original, load_external_data=False)
    given.ir_version = model.ir_version
    for entry in given.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain
    try:
        onnx.checker.check_model(given, full_check=True)
        raised = onnx.version_converter.convert_version(given, opset)
        onnx.checker.check_model(raised, full_check=True)
    except Exception:
        return False
    return True


def is_about_untouched(error: Exception, original: Path, output: Path) -> bool:
    """Whether the node that ONNX Runtime names was there before: it fused what we left alone."""
    name = re.search(r"Name:'([^/']+)", str(error))
    nodes = [
        {node.name: (node.op_type, *node.input) for node in onnx.load(path, load_external_data=False).graph.node}
        for path in (original, output)
    ]
    return name is not None and name[1] in nodes[0] and nodes[0][name[1]] == nodes[1].get(name[1])


def why_not(path: Path) -> str:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return " ".join(str(error).split())
    return ""


def loads(path: Path, library: Path | None, *, optimize: bool) -> bool:
    try:
        load(path, library=library, optimize=optimize)
    except Exception:
        return False
    return True


def optimiser_differs(original: Original, library: Path | None) -> bool:
    assert original.expected is not None
    try:
        actual = run(load(original.path, library=library, optimize=True), original.feeds)
    except Exception:
        return True
    return bool(
        differs(actual, original.expected, original=original.path, feeds=original.feeds, element=original.element)
    )


def element_of(model: onnx.ModelProto) -> np.dtype[Any]:
    """The narrowest float type of its inputs."""
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    floats = [helper.tensor_dtype_to_np_dtype(kind) for kind in kinds if kind in (1, 10, 11, 16)]
    return min(floats, key=lambda dtype: (dtype.itemsize, dtype.kind), default=np.dtype(np.float32))
