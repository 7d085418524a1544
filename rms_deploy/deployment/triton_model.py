"""The model that Triton's Python backend runs: model.onnx beside this file, in a session of rms-deploy.

`rms-deploy package --backend python` copies this file into the repository as model.py. It needs rms-deploy where the
server's Python looks for packages.
"""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

import rms_deploy

__all__ = ["TritonPythonModel"]

_Arrays = dict[str, NDArray[Any]]

_USED_CAPSULE = b"used_dltensor"
_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


class TritonPythonModel:
    """One instance of the model. Triton gives each a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session, on the device of this instance."""
        on_gpu = args["model_instance_kind"] == "GPU"
        if on_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = args["model_instance_device_id"]
        config = json.loads(args["model_config"])
        self._is_batched = config["max_batch_size"] > 0
        threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value")
        self._session = rms_deploy.session(
            Path(__file__).with_name("model.onnx"),
            threads=int(threads) if threads else None,
            provider="CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider",
        )
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response for each request.

        Requests that the server batched have equal shapes but for the first dimension, and run as one.
        """
        given = [self._arrays(request) for request in requests]
        if len(given) > 1 and self._is_batched:
            try:
                return [_response(part) for part in self._run_together(given)]
            except Exception as error:  # one of the requests is wrong; the others get their answer
                pb_utils.Logger.log_verbose(f"a batch of {len(given)} requests runs one by one: {error}")
        return [self._respond(arrays) for arrays in given]

    def _arrays(self, request: Any) -> _Arrays:
        # as_numpy and the constructor of Tensor mistake the strides where numpy is 2 or later; DLPack does not.
        return {name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in self._inputs}

    def _run(self, arrays: _Arrays) -> _Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, arrays), strict=True))

    def _run_together(self, given: list[_Arrays]) -> list[_Arrays]:
        whole = self._run({name: np.concatenate([arrays[name] for arrays in given]) for name in self._inputs})
        ends = np.cumsum([len(arrays[self._inputs[0]]) for arrays in given])[:-1]
        parts = {name: np.split(array, ends) for name, array in whole.items()}
        return [{name: parts[name][index] for name in self._outputs} for index in range(len(given))]

    def _respond(self, arrays: _Arrays) -> Any:
        try:
            return _response(self._run(arrays))
        except Exception as error:  # what a runtime raises is the answer to this request, and not the server's end
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(" ".join(str(error).split())))


def _response(arrays: _Arrays) -> Any:
    return pb_utils.InferenceResponse([_tensor(name, array) for name, array in arrays.items()])


def _tensor(name: str, array: NDArray[Any]) -> Any:
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # Triton has marked the capsule as used with a name that numpy does not know, and complains of in the server's log.
    _set_capsule_name(capsule, _USED_CAPSULE)
    return tensor
