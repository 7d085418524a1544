"""A torch module takes the inputs of the ONNX file that was exported from it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from rms_deploy.benchmark.worker.torch_module import _arguments, module_run
from rms_deploy.errors import InputError

FEEDS = {"a": np.full((2, 3), 2, np.float32), "b": np.ones((2, 3), ml_dtypes.bfloat16)}


def test_positional_arguments_take_the_inputs_in_their_order():
    positional, named = _arguments("m", (1, 2), FEEDS)
    assert named == {}
    assert [tensor.dtype for tensor in positional] == [torch.float32, torch.bfloat16]
    assert torch.equal(positional[1].float(), torch.ones(2, 3))


def test_named_arguments_take_the_inputs_of_their_names_or_their_order():
    _, named = _arguments("m", {"b": 1, "a": 2}, FEEDS)
    assert {name: tensor.dtype for name, tensor in named.items()} == {"a": torch.float32, "b": torch.bfloat16}
    _, named = _arguments("m", {"x": 1, "y": 2}, FEEDS)
    assert {name: tensor.dtype for name, tensor in named.items()} == {"x": torch.float32, "y": torch.bfloat16}


def test_another_number_of_inputs_is_one_line():
    with pytest.raises(InputError, match="its example call has 1 arguments and the ONNX file 2 inputs"):
        _arguments("m", (1,), FEEDS)


def test_a_module_runs_without_gradients(tmp_path, monkeypatch):
    (tmp_path / "double_it.py").write_text(
        "import torch\n"
        "class Double(torch.nn.Module):\n"
        "    def forward(self, x): return 2 * x\n"
        "def make(): return Double(), (torch.ones(2, 3),)\n"
    )
    monkeypatch.chdir(tmp_path)
    result = module_run("double_it:make", {"x": FEEDS["a"]}, threads=1)()
    assert torch.equal(result, torch.full((2, 3), 4.0))
    assert result.is_inference()
