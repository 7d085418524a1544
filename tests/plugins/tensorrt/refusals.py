"""Wrong fields and wrong nodes, and what TensorRT's logger says of them.

Run as a program with the library's path: TensorRT hands its plugins the first logger of the process, so that only a
process of its own is sure to see what they say. Prints a list of messages for each case, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from rms_deploy.runtime.tensorrt_rtx_wheel import mend

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
KNOWN = "axes, epsilon, rms_epsilon, rms_min, scale_type"

FIELDS: dict[str, tuple[str, list[tuple[str, Any, str]]]] = {
    "epsilon is -1; use a finite number, at least 0": ("RMSNorm", [("epsilon", F32([-1]), "FLOAT32")]),
    "rms_epsilon is inf; use a finite number, at least 0": ("RMSNorm", [("rms_epsilon", F32([np.inf]), "FLOAT32")]),
    "rms_min is nan; use a finite number, at least 0": ("RMSNorm", [("rms_min", F32([np.nan]), "FLOAT32")]),
    "epsilon has PluginFieldType 2; use kFLOAT32": ("RMSNorm", [("epsilon", F64([1]), "FLOAT64")]),
    "rms_min has PluginFieldType 5; use kFLOAT32": ("AddRMSNorm", [("rms_min", I32([1]), "INT32")]),
    "epsilon has 2 values; use 1": ("RMSNorm", [("epsilon", F32([1, 1]), "FLOAT32")]),
    "axes has PluginFieldType 1; use kINT64 or kINT32": ("RMSNorm", [("axes", F32([1]), "FLOAT32")]),
    "axes has 9 values; use 1 to 8": ("RMSNorm", [("axes", I64(range(9)), "INT64")]),
    "scale_type is 2; use 1 (float32), or 10 (float16) or 16 (bfloat16) if X holds such values": (
        "RMSNorm",
        [("scale_type", I32([2]), "INT32")],
    ),
    "scale_type has 2 values; use 1": ("RMSNorm", [("scale_type", I64([1, 1]), "INT64")]),
    "partial_size is missing; PartialRMSNorm requires it": ("PartialRMSNorm", []),
    "partial_size is 0; use at least 1": ("PartialRMSNorm", [("partial_size", I64([0]), "INT64")]),
    "y_scale is missing; RMSNormQuantize requires it": ("RMSNormQuantize", []),
    "output_dtype is missing; RMSNormQuantize requires it": (
        "RMSNormQuantize",
        [("y_scale", F32([1]), "FLOAT32")],
    ),
    "y_scale is nan; use a finite number above 0": ("RMSNormQuantize", [("y_scale", F32([np.nan]), "FLOAT32")]),
    "y_scale has PluginFieldType 5; use kFLOAT32": ("RMSNormQuantize", [("y_scale", I32([1]), "INT32")]),
    "output_dtype is 1; use 3 (int8) or 17 (float8e4m3fn)": (
        "RMSNormQuantize",
        [("y_scale", F32([1]), "FLOAT32"), ("output_dtype", I32([1]), "INT32")],
    ),
    "precision is 2; use 1 (float32), or 10 (float16) or 16 (bfloat16) if X holds such values": (
        "RMSNormQuantize",
        [("y_scale", F32([1]), "FLOAT32"), ("output_dtype", I32([3]), "INT32"), ("precision", I32([2]), "INT32")],
    ),
    f"field 'eps' is unknown; use {KNOWN}": ("RMSNorm", [("eps", F32([1]), "FLOAT32")]),
    f"field 'partial_size' is unknown; use {KNOWN}": ("AddRMSNorm", [("partial_size", I64([1]), "INT64")]),
    "epsilon is given twice; use one field of that name": (
        "RMSNorm",
        [("epsilon", F32([1]), "FLOAT32"), ("epsilon", F32([1]), "FLOAT32")],
    ),
}
"""The text, and the op and the fields that it refuses."""

NODES: dict[str, dict[str, Any]] = {
    "epsilon is -1; use a finite number, at least 0": {"epsilon": -1.0},
    "epsilon has PluginFieldType 5; use kFLOAT32": {"epsilon": 1},
    "axes is [0,2]; use one contiguous block of distinct axes": {"axes": [0, 2]},
    "axes is [2,-1]; use one contiguous block of distinct axes": {"axes": [2, -1]},
    "axes has 3; X has rank 3, use -3 to 2": {"axes": [3]},
    "X has rank 0; use 1 to 8": {"shape": ()},
    "X has DataType 3; use float32, float16 or bfloat16": {"types": ("int32", "float32")},
    "scale has bfloat16; use float32 or float16, the type of X": {"types": ("float16", "bfloat16")},
    "scale has float16; use float32": {"types": ("float32", "float16")},
    "scale_type is 10; use 1 (float32), the type of X": {"scale_type": 10},
    "scale_type is 16; use 1 (float32) or 10 (float16, the type of X)": {
        "scale_type": 16,
        "types": ("float16", "float16"),
    },
    "R has rank 2; use 3, that of X": {"op": "AddRMSNorm", "operand": ("sequence", 64)},
    "Z has rank 2; use 3, that of X": {"op": "SiluGateRMSNorm", "operand": ("sequence", 64)},
    "axes is [1], X has rank 3; use axes that end with the last: a norm with a gate takes no others": {
        "op": "RMSNormSiluGate",
        "axes": [1],
        "scale": (1,),
    },
    "axes is [1], X has rank 3; use axes that end with the last: a norm with a shift takes no others": {
        "op": "RMSNormShift",
        "axes": [1],
        "scale": (1,),
    },
    "axes is [1], X has rank 3; use axes that end with the last: a norm with a quantised result takes no others": {
        "op": "AddRMSNormQuantize",
        "axes": [1],
        "scale": (1,),
    },
    "R has bfloat16; use float32 or float16, the type of X": {
        "op": "AddRMSNormShift",
        "types": ("float16", "float32"),
        "residual": "bfloat16",
    },
    "R has float16; use float32": {"op": "AddFloat32RMSNorm", "residual": "float16"},
    "shift has float32; use float16, the type of scale": {
        "op": "RMSNormShift",
        "types": ("float16", "float16"),
        "shift_type": "float32",
    },
    "y_scale is 0; use a finite number above 0": {"op": "RMSNormQuantize", "y_scale": 0.0},
    "output_dtype is 2; use 3 (int8) or 17 (float8e4m3fn)": {"op": "AddRMSNormQuantize", "output_dtype": 2},
    # from here on, what only the build knows: shapes
    "R has shape [-1,-1,32]; use that of X, [-1,-1,64], or fuse without residual Adds (fuse --no-residual): they "
    "broadcast, and this op does not": {
        "op": "AddRMSNorm",
        "operand": ("batch", "sequence", 32),
    },
    "Z has shape [-1,-1,32]; use that of X, [-1,-1,64]": {
        "op": "RMSNormSiluGate",
        "operand": ("batch", "sequence", 32),
    },
    "scale has 7 elements; use 1 or 64": {"scale": (7,)},
    "scale has shape [64]; use one that is 1 behind the axes of X [-1,-1,64]": {"axes": [1]},
    "shift has shape [1]; use that of scale, [64]": {"op": "RMSNormShift", "shift": (1,)},
    "axes is [1], X has rank 3; use axes that end with the last: a norm with a residual of another type than X takes "
    "no others": {
        "op": "AddRMSNorm",
        "types": ("float16", "float16"),
        "residual": "float32",
        "axes": [1],
        "scale": (1,),
    },
    "partial_size is 65; use 1 to 64, the number of normalised elements": {
        "op": "PartialRMSNorm",
        "partial_size": 65,
    },
}
"""The text, and the node that it refuses."""


def main(library: str) -> None:
    mend()
    import tensorrt_rtx as trt
    from networks import Network, node_model

    class Recorder(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                self.messages.append(message)

    recorder = Recorder()
    builder = trt.Builder(recorder)  # makes its logger the first
    trt.get_plugin_registry().load_library(library)

    def said() -> Iterator[list[str]]:
        for op, fields in FIELDS.values():
            recorder.messages.clear()
            creator = trt.get_plugin_registry().get_creator(op, "1", "rms_deploy")
            made = [trt.PluginField(n, data, getattr(trt.PluginFieldType, kind)) for n, data, kind in fields]
            plugin = creator.create_plugin("norm", trt.PluginFieldCollection(made), trt.TensorRTPhase.BUILD)
            yield recorder.messages if plugin is None else ["made a plugin"]
        for node in NODES.values():
            recorder.messages.clear()
            network = Network(trt, recorder, node_model(**node))
            plan = None if network.errors else network.plan("SM120")
            yield recorder.messages if plan is None else ["built a plan"]

    print(json.dumps([list(messages) for messages in said()]))
    del builder


if __name__ == "__main__":
    main(sys.argv[1])
