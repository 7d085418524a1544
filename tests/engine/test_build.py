"""Engines of a decoder, its norms as plugins and decomposed; built on the CPU for GPUs that need not be here."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import onnx
import onnx_ir as ir
import pytest

import rms_deploy
from rms_deploy.engine import build as engine_build
from rms_deploy.errors import EngineError, InputError, InstallationError, ModelFileError, OutputError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.file_hashes import file_hash
from rms_deploy.runtime.engine_file import read_record
from rms_deploy.runtime.gpus import Gpu

from ..fusion.passes.one_norm import one_norm

NORMS = 5  # of llama-tiny: two layers of two, and the last one


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A fused decoder, as it comes from an exporter that knows nothing of us: its residual Adds are fused too."""
    folder = tmp_path_factory.mktemp("decoder")
    rms_deploy.export("llama-tiny", folder / "decomposed.onnx", norm="decomposed")
    rms_deploy.fuse(folder / "decomposed.onnx", folder / "decoder.onnx")
    return folder / "decoder.onnx"


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_every_norm_of_a_decoder_is_a_plugin(decoder, library, sm120, tmp_path):
    output = tmp_path / "decoder.engine"
    record = rms_deploy.build(decoder, output, norm="plugin", **sm120)
    assert (record.norm, record.norm_count, record.plugin_count, record.unfused_count) == ("plugin", NORMS, NORMS, 0)
    assert record.bytes == output.stat().st_size
    assert library.read_bytes() in output.read_bytes()
    assert record.plugin == {"library": library.name, "sha256": file_hash(library), "embedded": True}
    assert record.model == {"decoder.onnx": file_hash(decoder)}
    written = json.loads((tmp_path / "decoder.engine.json").read_text())
    assert written == json.loads(json.dumps(record.to_dict())) == read_record(output)
    assert (written["runtime"], written["devices"], written["plugin_count"]) == ("tensorrt-rtx", ["sm120"], NORMS)
    assert written["optimization_profiles"] == [{"input_ids": {"min": [1, 1], "opt": [2, 16], "max": [32, 256]}}]
    assert written["inputs"] == {"input_ids": {"dtype": "int64", "shape": ["batch", "sequence"]}}
    assert written["outputs"] == {"logits": {"dtype": "float32", "shape": ["batch", "sequence", 256]}}


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_no_norm_of_a_decoder_is_a_plugin(decoder, sm120, tmp_path):
    """The plugins are registered in this process, and none is taken."""
    output = tmp_path / "decoder.engine"
    record = rms_deploy.build(decoder, output, norm="decomposed", **sm120)
    assert (record.norm, record.norm_count, record.plugin_count, record.plugin) == ("decomposed", NORMS, 0, None)
    assert b"rms_deploy" not in output.read_bytes()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_every_type_and_op(dtype, small, sm120, tmp_path):
    plugins = rms_deploy.build(small(dtype), tmp_path / "p.engine", norm="plugin", **sm120)
    decomposed = rms_deploy.build(small(dtype), tmp_path / "d.engine", norm="decomposed", **sm120)
    assert (plugins.plugin_count, decomposed.plugin_count) == (3, 0)
    assert (plugins.norm_count, decomposed.norm_count) == (3, 3)


def test_a_plugin_outside_of_the_engine(library, small, sm120, tmp_path):
    inside = rms_deploy.build(small(), tmp_path / "in.engine", norm="plugin", **sm120)
    outside = rms_deploy.build(small(), tmp_path / "out.engine", norm="plugin", embed_plugin=False, **sm120)
    assert outside.plugin["embedded"] is False
    assert inside.bytes - outside.bytes >= library.stat().st_size


def test_several_devices_and_optimization_profiles(small, rtx, tmp_path):
    profiles = [{name: [[1, 64], [size, 64], [8, 64]] for name in "XR"} for size in (1, 8)]
    record = rms_deploy.build(
        small(),
        tmp_path / "e.engine",
        runtime=rtx.name,
        devices=["SM86", "sm89"],
        norm="decomposed",
        optimization_profiles=profiles,
    )
    assert record.devices == ("sm86", "sm89")
    assert [profile["X"].opt for profile in record.optimization_profiles] == [(1, 64), (8, 64)]
    assert record.notes == ()


@pytest.mark.parametrize(("capability", "is_said"), [("sm90", True), ("sm120", False)])
def test_a_gpu_that_the_engine_does_not_run_on_is_said(small, rtx, tmp_path, monkeypatch, capability, is_said):
    monkeypatch.setattr(engine_build, "gpus", lambda: (Gpu("NVIDIA H200", capability, 1, "580"),))
    record = rms_deploy.build(small(), tmp_path / "e.engine", runtime=rtx.name, norm="decomposed")
    said = "the engine does not run on NVIDIA H200 (sm90): tensorrt-rtx knows sm75, "
    assert any(note.startswith(said) for note in record.notes) == is_said


def test_guessed_shapes_are_said(small, sm120, tmp_path):
    record = rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", **sm120)
    assert record.notes == (
        "the shapes X=1x64:2x64:32x64, R=1x64:2x64:32x64 were guessed; `optimization_profiles` sets them",
    )


def test_weights_in_a_file_of_their_own(small, sm120, tmp_path):
    path = tmp_path / "external.onnx"
    onnx.save(onnx.load(small()), path, save_as_external_data=True, location="weights", size_threshold=0)
    record = rms_deploy.build(path, tmp_path / "e.engine", norm="decomposed", **sm120)
    assert record.model == {"external.onnx": file_hash(path), "weights": file_hash(tmp_path / "weights")}


@pytest.mark.parametrize("kind", [onnx.load, load_model])
@pytest.mark.parametrize("external", [False, True])
def test_models_in_memory(kind, external, small, sm120, tmp_path):
    """Their weights are read, also from a file: the engine is that of the model's file."""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(small()), path, save_as_external_data=external, location="weights", size_threshold=0)
    of_file = rms_deploy.build(path, tmp_path / "file.engine", norm="decomposed", **sm120)
    model = kind(path)
    before = names_in(tmp_path)
    record = rms_deploy.build(model, tmp_path / "memory.engine", norm="decomposed", **sm120)
    assert (record.layers, record.bytes) == (of_file.layers, of_file.bytes)
    assert names_in(tmp_path) == sorted([*before, "memory.engine", "memory.engine.json"])
    assert (rms_deploy.fuse(model, verify=False).norms, record.norm_count) == ((), 3)


def test_a_model_in_memory_without_its_weights(small, sm120, tmp_path):
    onnx.save(onnx.load(small()), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    with pytest.raises(ModelFileError, match=r"^small: the external data of scale is not at .*w; give the path of the"):
        rms_deploy.build(model, tmp_path / "e.engine", **sm120)


def test_plugins_without_the_library(small, sm120, tmp_path, monkeypatch):
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path)])
    with pytest.raises(InstallationError, match=r"^librms_deploy_tensorrt\.so is not built; .*pip install"):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="plugin", **sm120)


@pytest.mark.usefixtures("library")
def test_a_model_without_fused_norms(sm120, tmp_path, build, caplog):
    body = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
    onnx.save(build(body), tmp_path / "in.onnx")
    message = 'has no fused norm, so no plugin; run `rms_deploy.fuse` first, or `norm="decomposed"` builds it'
    with pytest.raises(InputError, match=message):
        rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", norm="plugin", **sm120)
    with caplog.at_level(logging.WARNING):
        record = rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", **sm120)
    assert "1 norms are not fused; run `rms_deploy.fuse` first" in caplog.text
    assert record.unfused_count == 1
    assert record.reason == "the model has no fused norm, so the decomposed norms were taken"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_stops_the_build_and_nothing_is_left(error, small, sm120, tmp_path):
    def fail(_fraction, phase):
        if phase != "Building engine":
            raise error

    with pytest.raises(error):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", on_progress=fail, **sm120)
    assert names_in(tmp_path) == ["float.onnx"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_the_build_and_nothing_is_left(small, sm120, tmp_path):
    told = []

    def interrupt(_fraction, phase):
        told.append(phase)
        if len(told) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)  # so that the build cannot end before the main thread is heard

    with pytest.raises(KeyboardInterrupt):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", on_progress=interrupt, **sm120)
    assert names_in(tmp_path) == ["float.onnx"]


def test_a_timing_cache_is_written_and_read_again(small, sm120, tmp_path):
    """TensorRT-RTX takes and gives one, without timings; that it saves time is for a GPU to show."""
    cache = tmp_path / "cache"
    first = rms_deploy.build(small(), tmp_path / "1.engine", norm="decomposed", timing_cache=cache, **sm120)
    written = cache.read_bytes()
    assert written
    second = rms_deploy.build(small(), tmp_path / "2.engine", norm="decomposed", timing_cache=cache, **sm120)
    assert cache.read_bytes() == written
    assert first.bytes == second.bytes
    assert "tensorrt-rtx times nothing when it builds: its timing cache holds no timings" in second.notes


@pytest.mark.usefixtures("library")
def test_two_builds_in_parallel(small, sm120, tmp_path):
    models = [small(), small("float16")]
    with ThreadPoolExecutor(2) as executor:
        builds = [
            executor.submit(rms_deploy.build, model, tmp_path / f"{index}.engine", norm="plugin", **sm120)
            for index, model in enumerate(models)
        ]
    assert [each.result().plugin_count for each in builds] == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opt_level": 6}, "`opt_level` is 6; use 0 to 5"),
        ({"workspace": 0}, "`workspace` is 0 MiB; use 1 to 8796093022207"),
        ({"workspace": 2**43}, "`workspace` is 8796093022208 MiB; use 1 to 8796093022207"),
        ({"optimization_profiles": [{"X": ((2**63, 64),) * 3}]}, "X: size 9223372036854775808 does not fit into 64"),
        ({"norm": "fast"}, "norm 'fast' is not known; use plugin, decomposed or auto"),
    ],
)
def test_options_out_of_range(options, message, small, sm120, tmp_path):
    with pytest.raises(InputError, match=message):
        rms_deploy.build(small(), tmp_path / "e.engine", **{**sm120, **options})


def test_a_target_that_cannot_be_written_is_said_first(small, sm120, tmp_path):
    with pytest.raises(OutputError, match="does not exist; create it first"):
        rms_deploy.build(small(), tmp_path / "no" / "e.engine", **sm120)


@pytest.mark.parametrize(
    ("output", "cache", "message"),
    [
        ("float.onnx", None, r"float\.onnx: the engine would take the place of the model; give another name"),
        ("e.engine", "float.onnx", "the timing cache would take the place of the model"),
        ("e.engine", "e.engine", "the timing cache would take the place of the engine;"),
        ("e.engine", "e.engine.json", "the timing cache would take the place of the engine's record"),
    ],
)
def test_no_file_takes_the_place_of_another(output, cache, message, small, sm120, tmp_path):
    model = small()
    before = model.read_bytes()
    with pytest.raises(OutputError, match=message):
        rms_deploy.build(model, tmp_path / output, timing_cache=None if cache is None else tmp_path / cache, **sm120)
    assert names_in(tmp_path) == ["float.onnx"]
    assert model.read_bytes() == before


def test_a_model_that_tensorrt_refuses(sm120, tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 18, "own" : 1]> g (float[4] x) => (float[4] y) { y = own.Thing (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "in.onnx")
    with pytest.raises(EngineError, match=r"in\.onnx: tensorrt-rtx \S+ refuses it: .*Thing") as raised:
        rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", **sm120)
    assert "\n" not in str(raised.value)
    assert names_in(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("RMSNormShift", {"scale_dtype": "float32"}),
        ("AddFloat32RMSNorm", {"sum_dtype": "float32"}),
        ("RMSNormQuantize", {"output_dtype": 17}),
        ("AddRMSNormQuantize", {"output_dtype": 3, "sum_dtype": "float32"}),
    ],
)
def test_what_stands_around_a_norm_in_primitives(op, options, sm120, tmp_path):
    """TensorRT wants the scale and the zero point of QuantizeLinear to be constants."""
    onnx.save(ir.to_proto(one_norm(op, "float16", **options)), tmp_path / "m.onnx")
    record = rms_deploy.build(tmp_path / "m.onnx", tmp_path / "e.engine", norm="decomposed", **sm120)
    assert (record.norm_count, record.plugin_count) == (1, 0)
