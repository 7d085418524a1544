"""Compile each model in OpenVINO, in the environment of requirements.txt: python run_openvino.py FOLDER MODEL...

FOLDER/openvino.json gets, for each, the number of its RMS kernels and its output, or what OpenVINO said.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino


def compiled(path: str) -> dict[str, object]:
    """A model on the CPU, in float32, which is not OpenVINO's choice on every CPU."""
    try:
        model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        return {"error": str(error)}
    kernels = [operator.get_rt_info()["layerType"] for operator in model.get_runtime_model().get_ops()]
    logits = model({"input_ids": np.arange(24).reshape(2, 12) * 5 % 64})[0]
    return {"RMS kernels": kernels.count("RMS"), "logits": logits.tolist()}


if __name__ == "__main__":
    found = {Path(path).stem: compiled(path) for path in sys.argv[2:]}
    Path(sys.argv[1], "openvino.json").write_text(json.dumps(found))
