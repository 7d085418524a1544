"""Folders of Hugging Face: loaded as they were saved, exported with every norm one op, and all that can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from rms_deploy import export
from rms_deploy.errors import InputError
from rms_deploy.exporter.hugging_face import load_folder
from rms_deploy.runtime import onnxruntime_session as runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}
T5 = {"vocab_size": 64, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}


def saved(folder: Path, kind: str = "LlamaForCausalLM", dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A tiny model with random weights, written to `folder`."""
    import transformers

    config = "T5Config" if kind.startswith("T5") else f"{kind.removesuffix('ForCausalLM')}Config"
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**(T5 if "T5" in kind else DECODER)))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.to(dtype).eval().save_pretrained(folder)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "expected_kinds", "output"),
    [
        ("LlamaForCausalLM", ["RMSNorm", *2 * ["AddRMSNorm"]], "logits"),
        ("Qwen3ForCausalLM", [*3 * ["RMSNorm"], *2 * ["AddRMSNorm"]], "logits"),
        ("T5EncoderModel", ["RMSNorm", *2 * ["AddRMSNorm"]], "last_hidden_state"),
    ],
)
@torch.no_grad()
def test_every_norm_is_one_op(kind, expected_kinds, output, tmp_path) -> None:
    model = saved(tmp_path / "model", kind)
    exported = export(str(tmp_path / "model")).model
    kinds = [node.op_type for node in exported.graph if node.domain == "rms_deploy"]
    assert kinds == expected_kinds
    assert [value.name for value in exported.graph.inputs] == ["input_ids", "attention_mask"]
    assert [value.name for value in exported.graph.outputs] == [output]
    ids = torch.randint(64, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    feeds = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (actual,) = runtime.run(runtime.session(exported), feeds).values()
    expected = model(input_ids=ids, attention_mask=mask)[0]
    # One layer of at most 20 roundings, and sums over up to 48 terms; what is masked does not count
    difference = np.abs(actual - expected.double().numpy())[mask.bool().numpy()]
    assert difference.max() <= 40 * 2.0**-23 * float(expected.abs().max())
    without_mask = model(input_ids=ids)[0]
    assert not torch.allclose(expected[0], without_mask[0])


def test_weights_and_dtype_are_those_of_the_file(tmp_path) -> None:
    model = saved(tmp_path, dtype=torch.bfloat16)
    source = load_folder(tmp_path)
    module, inputs = source.module, source.inputs
    assert source.own
    assert type(module) is type(model)
    assert not module.training
    theirs = module.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=0)
    assert list(inputs) == ["input_ids", "attention_mask"]


def test_random_weights_follow_a_seed(tmp_path) -> None:
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    state = torch.random.get_rng_state()
    first, again = (load_folder(tmp_path, random_weights=True).module.state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)


def spoil_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def spoil_weights(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors[name]
    if tensor is not None:
        tensors[name] = tensor
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


NORM = "model.layers.0.input_layernorm.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json; give the folder that save_pretrained wrote$"),
        (
            lambda f: (f / "model.safetensors").unlink(),
            r"no \*.safetensors; put the weights there, or use `random_weights=True`",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 20), "transformers cannot load it: "),
        (lambda f: (f / "config.json").write_text("{"), "transformers cannot load it: "),
        (lambda f: spoil_config(f, model_type="novel"), "transformers cannot load it: ValueError: .*novel"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTModel"]}'),
            "ViTModel takes no tokens; give a model of text, or a factory of your own$",
        ),
        (lambda f: spoil_config(f, architectures=["NovelModel"]), "transformers [0-9.]+ has no NovelModel; is a newer"),
        (lambda f: spoil_weights(f, NORM, None), f"the weights lack 1 parameters, such as {NORM}$"),
        (
            lambda f: spoil_weights(f, NORM, torch.ones(31)),
            "the weights have another shape of 1 parameters|cannot load",
        ),
    ],
)
def test_mistakes_are_one_line(spoil, message, tmp_path) -> None:
    saved(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        load_folder(tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_code_of_the_folder_is_not_run_nor_asked_for(tmp_path, monkeypatch) -> None:
    saved(tmp_path)
    spoil_config(tmp_path, model_type="novel", auto_map={"AutoConfig": "code.Config"})
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")
    with pytest.raises(InputError, match=r"transformers cannot load it: ValueError: .*custom code"):
        load_folder(tmp_path)
    assert not asked


def test_two_stacks_are_refused(tmp_path) -> None:
    saved(tmp_path, "T5ForConditionalGeneration")
    with pytest.raises(InputError, match=r"T5ForConditionalGeneration has an encoder and a decoder, .*T5EncoderModel"):
        load_folder(tmp_path)


def test_missing_transformers_is_one_line(tmp_path) -> None:
    code = "import sys; sys.modules['transformers'] = None; from rms_deploy.cli.main import main; main()"
    command = [sys.executable, "-c", code, "export", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: transformers is not installed; run: pip install")
    assert "Traceback" not in result.stderr
