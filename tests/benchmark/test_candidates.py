"""Which candidates the arguments name, in which order, and what cannot be compared."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.candidates import CANDIDATE_RUNTIMES, ENDPOINT, candidates
from rms_deploy.benchmark.model_files import ModelFiles
from rms_deploy.benchmark.worker.runtimes import LOADERS
from rms_deploy.errors import InputError

from ..made_models import fused_norm, write


def found(folder, models, **options):
    files = ModelFiles(folder)
    return candidates(files.take(models), files, **options)


def test_the_runtimes_are_those_that_can_be_loaded():
    assert {*CANDIDATE_RUNTIMES, "tensorrt", ENDPOINT} == set(LOADERS)


def test_every_file_runs_on_every_runtime_and_the_name_says_which(tmp_path):
    path = fused_norm(tmp_path / "a.onnx")
    runtimes = ("onnxruntime", "onnxruntime-cuda", "torch")
    made = found(tmp_path, path, runtimes=runtimes, module="m:f", also_without_library=True)
    assert [(c.name, c.runtime, c.library) for c in made] == [
        (f"{path}", "onnxruntime", True),
        (f"{path} without our library", "onnxruntime", False),
        (f"{path} onnxruntime-cuda", "onnxruntime-cuda", True),
        (f"{path} onnxruntime-cuda without our library", "onnxruntime-cuda", False),
        ("m:f torch", "torch", False),
    ]
    assert {c.signature for c in made} == {str(path)}
    assert [c.target for c in made] == [str(path)] * 4 + ["m:f"]
    assert made[0].norm_counts == {"fused RMSNorm": 1}


def test_variants_stand_in_the_place_of_their_model(tmp_path):
    path = fused_norm(tmp_path / "a.onnx")
    made = found(tmp_path, path, compare=("original", "decomposed"))
    assert [(c.name, c.model, c.norm_counts) for c in made] == [
        ("original", str(path), {"fused RMSNorm": 1}),
        ("decomposed", str(path), {"decomposed RMSNorm": 1}),
    ]
    assert made[0].target == str(path)
    assert made[1].target == made[1].signature == str(tmp_path / "decomposed.onnx")


def test_a_variant_that_cannot_be_made_has_failed(tmp_path):
    (made,) = found(tmp_path, write(tmp_path / "a.onnx"), compare=("fused",))
    assert made.failure == "the model has no RMSNorm to fuse"


def test_an_engine_has_the_signature_of_the_first_model(tmp_path):
    path = write(tmp_path / "a.onnx")
    made = found(tmp_path, [path, tmp_path / "b.engine"])
    assert (made[1].runtime, made[1].signature, made[1].library) == ("tensorrt", str(path), False)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (1, {"runtimes": ("onnx",)}, "runtime 'onnx' is not known; use onnxruntime, "),
        (1, {"runtimes": ("torch",)}, 'name the module, e.g. `module="llama-tiny"`'),
        (1, {"runtimes": ("onnxruntime",), "module": "m:f"}, "add torch to `runtimes`, or leave `module` out"),
        (1, {"compare": ("fusd",)}, "variant 'fusd' is not known; use original, decomposed, "),
        (2, {"compare": ("fused",)}, "`compare` makes variants of one model, and 2 were given; give one"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, models, options, message):
    with pytest.raises(InputError) as raised:
        found(tmp_path, [write(tmp_path / "a.onnx")] * models, **options)
    assert message in str(raised.value)


def test_an_engine_is_not_the_first(tmp_path):
    with pytest.raises(InputError, match="give its ONNX file first"):
        found(tmp_path, [tmp_path / "b.engine", write(tmp_path / "a.onnx")])


def test_an_endpoint_gets_the_inputs_of_the_first_file(tmp_path):
    path = write(tmp_path / "a.onnx")
    url = "grpc://localhost:8001/decoder"
    file, served = found(tmp_path, [path, url], also_without_library=True)
    assert (served.name, served.model, served.target, served.signature) == (url, url, url, file.signature)
    assert (served.runtime, served.library) == (ENDPOINT, False)
    variants = found(tmp_path, [fused_norm(tmp_path / "n.onnx"), url], compare=("original", "fused"))
    assert [candidate.name for candidate in variants] == ["original", "fused", url]


def test_what_is_no_endpoint_or_stands_alone(tmp_path):
    path = write(tmp_path / "a.onnx")
    with pytest.raises(InputError, match="http://h/m: is no endpoint; write it as"):
        found(tmp_path, [path, "http://h/m"])
    with pytest.raises(
        InputError, match="grpc://h:1/m: a server does not say what its inputs mean; give its ONNX file"
    ):
        found(tmp_path, ["grpc://h:1/m"])
