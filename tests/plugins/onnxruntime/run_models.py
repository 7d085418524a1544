"""Runs in a process of its own, with any onnxruntime: each model of a folder, with and without the library.

    python run_models.py FOLDER [LIBRARY]

FOLDER has `name.onnx` and `name.npz` (its inputs); `name.out.npz` is written beside them. Needs numpy and onnxruntime.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(folder, library=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(library)
    for model in sorted(Path(folder).glob("*.onnx")):
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        with np.load(model.with_suffix(".npz")) as inputs:
            results = session.run(None, dict(inputs))
        names = [output.name for output in session.get_outputs()]
        np.savez(model.with_suffix(".out.npz"), **dict(zip(names, results, strict=True)))
    print(ort.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
