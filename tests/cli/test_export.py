"""`rms-deploy export`: files, one line a result, one line a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from rms_deploy.cli.main import rms_deploy
from rms_deploy.models import MODELS

FACTORIES = """
import torch
from torch import nn
from rms_deploy.nn import RMSNorm

def ours(): return RMSNorm(8), torch.ones(2, 8)
def theirs(): return nn.Sequential(nn.RMSNorm(8)), torch.ones(2, 8)
def normless(): return nn.Linear(8, 8), torch.ones(2, 8)
def failing(): raise ValueError("no weights here")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module of factories in it."""
    (tmp_path / "export_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("export_factories", None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(rms_deploy, ["export", *arguments], catch_exceptions=False)


def test_list() -> None:
    assert run("--list").stdout.splitlines() == list(MODELS)
    assert json.loads(run("--list", "--json").stdout) == {"models": list(MODELS)}


def test_built_in_model(folder) -> None:
    result = run("llama-tiny", "-o", "out.onnx", "--dtype", "float16", "--opset", "21")
    assert result.exit_code == 0
    size = (folder / "out.onnx").stat().st_size
    expected = f"exported llama-tiny (1 RMSNorm, 4 AddRMSNorm, opset 21, float16, {size / 2**20:.1f} MiB) -> out.onnx\n"
    assert result.stdout == expected
    assert onnx.load("out.onnx").opset_import[0].version == 21
    assert [path.name for path in folder.iterdir() if path.suffix == ".onnx"] == ["out.onnx"]


def test_norm_of_the_model() -> None:
    assert "(5 PartialRMSNorm, opset 20" in run("vit-tiny", "--model-norm", "prmsnorm:0.25").stdout
    nodes = onnx.load("vit-tiny.onnx").graph.node
    sizes = {a.i for node in nodes for a in node.attribute if a.name == "partial_size"}
    assert sizes == {16}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own, at import
def test_folder(folder) -> None:
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 8, "vocab_size": 64}
    config = transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    config.save_pretrained(folder / "my-llama")
    result = run("./my-llama")
    assert result.exit_code == 1
    assert "my-llama: no *.safetensors; put the weights there, or use --random-weights" in result.stderr
    # config.json names no class without weights: it is the bare stack
    assert "1 RMSNorm, 2 AddRMSNorm" in run("./my-llama", "--random-weights").stdout
    assert (folder / "my-llama.onnx").is_file()
    result = run("my-llama", "--random-weights", "--no-swap", "-o", "plain.onnx")
    assert "no norm op (fused)" in result.stdout
    assert "3 more of its norms are no ops of ours: 3 decomposed RMSNorm; rms-deploy fuse plain.onnx" in result.stdout
    assert "warning" not in result.stderr
    assert "no norm op (decomposed)" in run("my-llama", "--random-weights", "--norm", "decomposed").stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own, at import
def test_cache_of_a_folder(folder) -> None:
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 8, "vocab_size": 64}
    names = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4, "num_key_value_heads": 2}
    transformers.LlamaConfig(**sizes, **names).save_pretrained(folder / "my-llama")
    without = run("my-llama", "--random-weights")
    assert without.stdout.splitlines()[1:] == [
        "no key-value cache: each new token runs the whole sequence again; --with-past exports the cache"
    ]
    result = run("my-llama", "--random-weights", "--with-past")
    assert result.stdout.endswith(" MiB, with key-value cache) -> my-llama.onnx\n")
    assert "present.0.value" in [output.name for output in onnx.load("my-llama.onnx").graph.output]
    assert json.loads(run("my-llama", "--random-weights", "--json").stdout)["cached"] is False


def test_default_file_and_json(folder) -> None:
    result = run("export_factories:ours", "--norm", "standard", "--json")
    assert json.loads(result.stdout) == {
        "model": "export_factories:ours",
        "output": "ours.onnx",
        "bytes": (folder / "ours.onnx").stat().st_size,
        "norm_count": 1,
        "kind_count": {"RMSNormalization": 1},
        "norms": [{"kind": "RMSNormalization", "form": "standard", "node": "node_rms_norm"}],
        "opset": 23,
        "dtype": "float32",
        "cached": None,
        "other_norm_count": 0,
        "near_miss_count": 0,
    }


def test_swap_and_static(folder) -> None:
    result = run("export_factories:theirs", "--no-swap")
    assert "1 more of its norms are no ops of ours: 1 decomposed RMSNorm; rms-deploy fuse theirs.onnx" in result.stdout
    result = run("export_factories:normless")
    assert "no norm op (fused)" in result.stdout
    assert "warning: export_factories:normless: it has no RMSNorm" in result.stderr
    result = run("export_factories:theirs", "--static")
    assert "1 RMSNorm, opset 20" in result.stdout
    assert "warning" not in result.stderr
    shape = onnx.load(folder / "theirs.onnx").graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [2, 8]


def test_legacy_exporter() -> None:
    result = run("export_factories:ours", "--exporter", "legacy", "--norm", "decomposed")
    assert result.stdout.startswith("exported export_factories:ours (no norm op (decomposed), opset 20, float32")
    assert "warning" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llama-huge"], "model 'llama-huge' is not known; nearest: llama-base, llama-tiny; use a built-in name"),
        (["./missing"], "./missing: no such folder"),
        (["llama-tiny", "--model-norm", "batch"], "kind of norm 'batch' is not known; use rmsnorm, prmsnorm"),
        (["llama-tiny", "--random-weights"], "--random-weights is for folders of Hugging Face"),
        (["llama-tiny", "--with-past"], "--with-past is for folders of Hugging Face"),
        (["no_such_module:f"], "no_such_module:f: module no_such_module cannot be imported"),
        (["export_factories:missing"], "has no 'missing'"),
        (["export_factories:failing"], "the factory failed: ValueError: no weights here"),
        (["llama-tiny", "--dtype", "int8"], "dtype 'int8' is not supported; use float32, float16, bfloat16"),
        (["llama-tiny", "--opset", "3"], "opset 3 is not supported"),
        (["llama-tiny", "-o", "missing/out.onnx"], "missing does not exist; create it first"),
        (["llama-tiny", "-o", "."], "is a directory"),
        (
            ["llama-tiny", "--exporter", "legacy"],
            "cannot write norm 'fused'; use --norm decomposed or --exporter dynamo",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(arguments, message, folder) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if not line.startswith("exporting ")]
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert message in errors[0]
    assert not result.stdout
    assert not list(folder.glob("**/*.onnx"))


@pytest.mark.parametrize("arguments", [[], ["llama-tiny", "--norm", "fast"], ["llama-tiny", "--opset", "new"]])
def test_usage_is_exit_code_2(arguments) -> None:
    assert run(*arguments).exit_code == 2


def test_missing_torch_is_one_line() -> None:
    code = "import sys; sys.modules['torch'] = None; from rms_deploy.cli.main import main; main()"
    result = subprocess.run([sys.executable, "-c", code, "export", "llama-tiny"], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "Error: torch is not installed; run: pip install 'torch<2.14' onnxscript"
    assert "Traceback" not in result.stderr
