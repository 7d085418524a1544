"""Engines of a decoder, its norms as plugins and decomposed; built on the CPU for GPUs that need not be here."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import rms_deploy
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.engine import choice as engine_choice
from rms_deploy.engine.builder import BuildOptions
from rms_deploy.engine.choice import BuiltEngine, EngineRequest
from rms_deploy.engine.parser_input import with_plugin_norms
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.record import NormTiming, file_hash
from rms_deploy.errors import EngineError, InputError, InstallationError, OutputError
from rms_deploy.onnx_model.file import load_model
from rms_deploy.runtime.engine_file import read_record
from rms_deploy.runtime.gpus import Gpu
from rms_deploy.runtime.tensorrt_api import tensorrt
from rms_deploy.runtime.tensorrt_plugin import load_plugins

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")

RTX = {"runtime": "tensorrt-rtx", "devices": ["sm120"]}
NORMS = 5  # of llama-tiny: two layers of two, and the last one

SMALL = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
small ({T}[b, 64] X, {T}[b, 64] R) => ({T}[b, 64] P)
{{
    Y, Sum = rms_deploy.AddRMSNorm (X, R, scale)
    M = MatMul (Y, W)
    N = rms_deploy.RMSNorm <scale_type = {N}> (M, scale)
    P = rms_deploy.PartialRMSNorm <partial_size = 8> (N, scale)
}}"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A fused decoder, as it comes from an exporter that knows nothing of us: its residual Adds are fused too."""
    folder = tmp_path_factory.mktemp("decoder")
    rms_deploy.export("llama-tiny", folder / "decomposed.onnx", norm="decomposed")
    rms_deploy.fuse(folder / "decomposed.onnx", folder / "decoder.onnx")
    return folder / "decoder.onnx"


@pytest.fixture
def small(tmp_path):
    """A file with one norm of each kind, in float32 or another type."""

    def write(dtype="float"):
        number = {"float": 1, "float16": 10, "bfloat16": 16}[dtype]
        model = onnx.parser.parse_model(SMALL.format(T=dtype, N=number))
        numbers = ir.DataType(number).numpy()
        for name, shape in (("scale", 64), ("W", (64, 64))):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 0.5, numbers), name))
        onnx.save(model, tmp_path / f"{dtype}.onnx")
        return tmp_path / f"{dtype}.onnx"

    return write


@pytest.fixture
def library():
    try:
        return rms_deploy.tensorrt_library()
    except InstallationError:
        pytest.skip("the plugin library is not built")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_every_norm_of_a_decoder_is_a_plugin(decoder, library, tmp_path):
    output = tmp_path / "decoder.engine"
    record = rms_deploy.build(decoder, output, norm="plugin", **RTX)
    assert (record.norm, record.norms, record.plugin_layers, record.unfused) == ("plugin", NORMS, NORMS, 0)
    assert record.bytes == output.stat().st_size
    assert library.read_bytes() in output.read_bytes()
    assert record.plugin == {"library": library.name, "sha256": file_hash(library), "embedded": True}
    assert record.model == {"decoder.onnx": file_hash(decoder)}
    written = json.loads((tmp_path / "decoder.engine.json").read_text())
    assert written == json.loads(json.dumps(record.to_dict())) == read_record(output)
    assert (written["runtime"], written["devices"], written["plugin_layers"]) == ("tensorrt-rtx", ["sm120"], NORMS)
    assert written["profiles"] == [{"input_ids": {"min": [1, 1], "opt": [2, 16], "max": [32, 256]}}]


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_no_norm_of_a_decoder_is_a_plugin(decoder, tmp_path):
    """The plugins are registered in this process, and none is taken."""
    output = tmp_path / "decoder.engine"
    record = rms_deploy.build(decoder, output, norm="decomposed", **RTX)
    assert (record.norm, record.norms, record.plugin_layers, record.plugin) == ("decomposed", NORMS, 0, None)
    assert b"rms_deploy" not in output.read_bytes()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_every_type_and_op(dtype, small, tmp_path):
    plugins = rms_deploy.build(small(dtype), tmp_path / "p.engine", norm="plugin", **RTX)
    decomposed = rms_deploy.build(small(dtype), tmp_path / "n.engine", norm="decomposed", **RTX)
    assert (plugins.plugin_layers, decomposed.plugin_layers) == (3, 0)


def test_a_plugin_outside_of_the_engine(library, small, tmp_path):
    inside = rms_deploy.build(small(), tmp_path / "in.engine", norm="plugin", **RTX)
    outside = rms_deploy.build(small(), tmp_path / "out.engine", norm="plugin", embed_plugin=False, **RTX)
    assert outside.plugin["embedded"] is False
    assert inside.bytes - outside.bytes >= library.stat().st_size


def test_several_devices_and_profiles(small, tmp_path):
    shapes = [{name: [[1, 64], [size, 64], [8, 64]] for name in "XR"} for size in (1, 8)]
    record = rms_deploy.build(
        small(),
        tmp_path / "e.engine",
        runtime="tensorrt-rtx",
        devices=["SM86", "sm89"],
        norm="decomposed",
        shapes=shapes,
    )
    assert record.devices == ("sm86", "sm89")
    assert [profile["X"].opt for profile in record.profiles] == [(1, 64), (8, 64)]
    assert record.notes == ()


def test_weights_in_a_file_of_their_own(small, tmp_path):
    path = tmp_path / "external.onnx"
    onnx.save(onnx.load(small()), path, save_as_external_data=True, location="weights", size_threshold=0)
    record = rms_deploy.build(path, tmp_path / "e.engine", norm="decomposed", **RTX)
    assert record.model == {"external.onnx": file_hash(path), "weights": file_hash(tmp_path / "weights")}


def test_auto_without_a_gpu_says_that_it_cannot_time(small, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_choice, "gpus", tuple)
    record = rms_deploy.build(small(), tmp_path / "e.engine", **RTX)
    assert (record.norm, record.timing) == ("decomposed", None)
    assert record.reason == "there is no GPU to time both on, so the decomposed norms were taken"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("decomposed", "kept"), [(12.0, "plugin"), (8.0, "decomposed"), (10.0, "decomposed")])
def test_auto_keeps_the_faster(decomposed, kept, small, tmp_path, monkeypatch):
    """The choice alone: what is timed here are not engines."""
    ours, theirs = (Latency.of([[time]] * 20) for time in (10.0, decomposed))
    timing = NormTiming(ours, theirs, Speedup.of(theirs, ours))
    monkeypatch.setattr(engine_choice, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    monkeypatch.setattr(engine_choice, "time_engines", lambda *_args, **_options: timing)
    record = rms_deploy.build(small(), tmp_path / "e.engine", **RTX)
    assert (record.norm, record.plugin_layers) == (kept, 3 if kept == "plugin" else 0)
    assert json.loads((tmp_path / "e.engine.json").read_text())["timing"]["speedup"]["value"] == decomposed / 10


def test_auto_does_not_time_for_another_gpu(small, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_choice, "gpus", lambda: (Gpu("a GPU", "sm90", 1, "1"),))
    record = rms_deploy.build(small(), tmp_path / "e.engine", **RTX)
    assert record.reason.startswith("the GPU here is sm90, which the engine is not built for, so the decomposed")


def test_auto_does_not_time_an_engine_without_weights(small, monkeypatch):
    """The choice alone: to strip weights takes a GPU."""
    built = []
    monkeypatch.setattr(engine_choice, "gpus", lambda: (Gpu("a GPU", "sm120", 1, "1"),))
    monkeypatch.setattr(
        engine_choice, "build_engine", lambda _request, norm: built.append(norm) or BuiltEngine(None, norm, 3, None)
    )
    options = BuildOptions(strip_weights=True)
    request = EngineRequest(tensorrt("tensorrt-rtx"), load_model(small()), "m.onnx", options, True, BuildProgress())
    assert engine_choice.choose_engine(request).reason.startswith("an engine without its weights does not run, so the")
    assert built == ["decomposed"]


@pytest.mark.usefixtures("library")
def test_a_norm_that_is_no_plugin_fails_the_build(small, tmp_path, monkeypatch):
    def one_more(model):
        prepared, names = with_plugin_norms(model)
        return prepared, names | {"forgotten"}

    monkeypatch.setattr(engine_choice, "with_plugin_norms", one_more)
    with pytest.raises(EngineError, match="1 of 4 fused norms did not become plugins, the first is forgotten"):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="plugin", **RTX)
    assert names_in(tmp_path) == ["float.onnx"]


@pytest.mark.usefixtures("library")
def test_a_plugin_in_a_native_engine_fails_the_build(small, tmp_path, monkeypatch):
    load_plugins(tensorrt("tensorrt-rtx"))
    monkeypatch.setattr(engine_choice, "with_decomposed_norms", lambda model: with_plugin_norms(model)[0])
    with pytest.raises(EngineError, match="3 layers became plugins that should not"):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", **RTX)


def test_plugins_without_the_library(small, tmp_path, monkeypatch):
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path)])
    with pytest.raises(InstallationError, match=r"^librms_deploy_tensorrt\.so is not built; .*pip install"):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="plugin", **RTX)


@pytest.mark.usefixtures("library")
def test_a_model_without_fused_norms(tmp_path, build, caplog):
    body = "q = Mul (x, x) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, scale)"
    onnx.save(build(body), tmp_path / "in.onnx")
    with pytest.raises(InputError, match="has no fused norm, so no plugin; run rms-deploy fuse first"):
        rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", norm="plugin", **RTX)
    with caplog.at_level(logging.WARNING):
        record = rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", **RTX)
    assert "1 norms are not fused; run rms-deploy fuse first" in caplog.text
    assert (record.unfused, record.reason) == (1, "the model has no fused norm, so the decomposed norms were taken")


def test_a_norm_in_a_function_counts_at_each_call(small):
    model = onnx.load(small())
    function = """<domain: "own", opset_import: ["rms_deploy" : 1]>
    Norm (x, s) => (y) { y = rms_deploy.RMSNorm (x, s) }"""
    model.functions.append(onnx.parser.parse_function(function))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    for index, source in enumerate("YZ"):
        model.graph.node.append(onnx.helper.make_node("Norm", [source, "scale"], ["ZQ"[index]], domain="own"))
    prepared, names = with_plugin_norms(ir.from_proto(model))
    assert len(names) == 5
    assert names == {node.name for node in prepared.graph if node.domain == "rms_deploy"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_stops_the_build_and_nothing_is_left(error, small, tmp_path):
    def fail(_fraction, phase):
        if phase != "Building engine":
            raise error

    with pytest.raises(error):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", on_progress=fail, **RTX)
    assert names_in(tmp_path) == ["float.onnx"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_the_build_and_nothing_is_left(small, tmp_path):
    told = []

    def interrupt(_fraction, phase):
        told.append(phase)
        if len(told) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)  # so that the build cannot end before the main thread is heard

    with pytest.raises(KeyboardInterrupt):
        rms_deploy.build(small(), tmp_path / "e.engine", norm="decomposed", on_progress=interrupt, **RTX)
    assert names_in(tmp_path) == ["float.onnx"]


def test_a_timing_cache_is_written_and_read_again(small, tmp_path):
    """TensorRT-RTX takes and gives one, without timings; that it saves time is for a GPU to show."""
    cache = tmp_path / "cache"
    first = rms_deploy.build(small(), tmp_path / "1.engine", norm="decomposed", timing_cache=cache, **RTX)
    written = cache.read_bytes()
    assert written
    second = rms_deploy.build(small(), tmp_path / "2.engine", norm="decomposed", timing_cache=cache, **RTX)
    assert cache.read_bytes() == written
    assert first.bytes == second.bytes
    assert "tensorrt-rtx times nothing when it builds: its timing cache holds no timings" in second.notes


@pytest.mark.usefixtures("library")
def test_two_builds_in_parallel(small, tmp_path):
    models = [small(), small("float16")]
    with ThreadPoolExecutor(2) as executor:
        builds = [
            executor.submit(rms_deploy.build, model, tmp_path / f"{index}.engine", norm="plugin", **RTX)
            for index, model in enumerate(models)
        ]
    assert [each.result().plugin_layers for each in builds] == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opt_level": 6}, "opt_level is 6; use 0 to 5"),
        ({"workspace": 0}, "workspace is 0 MiB; use 1 to 8796093022207"),
        ({"workspace": 2**43}, "workspace is 8796093022208 MiB; use 1 to 8796093022207"),
        ({"shapes": [{"X": ((2**63, 64),) * 3}]}, "input X: size 9223372036854775808 does not fit into 64 bits"),
        ({"norm": "fast"}, "norm 'fast' is not known; use plugin, decomposed or auto"),
    ],
)
def test_options_out_of_range(options, message, small, tmp_path):
    with pytest.raises(InputError, match=message):
        rms_deploy.build(small(), tmp_path / "e.engine", **{**RTX, **options})


def test_a_target_that_cannot_be_written_is_said_first(small, tmp_path):
    with pytest.raises(OutputError, match="does not exist; create it first"):
        rms_deploy.build(small(), tmp_path / "no" / "e.engine", **RTX)


@pytest.mark.parametrize(
    ("output", "cache", "message"),
    [
        ("float.onnx", None, r"float\.onnx: the engine would take the place of the model; give another name"),
        ("e.engine", "float.onnx", "the timing cache would take the place of the model"),
        ("e.engine", "e.engine", "the timing cache would take the place of the engine;"),
        ("e.engine", "e.engine.json", "the timing cache would take the place of the engine's record"),
    ],
)
def test_no_file_takes_the_place_of_another(output, cache, message, small, tmp_path):
    model = small()
    before = model.read_bytes()
    with pytest.raises(OutputError, match=message):
        rms_deploy.build(model, tmp_path / output, timing_cache=None if cache is None else tmp_path / cache, **RTX)
    assert names_in(tmp_path) == ["float.onnx"]
    assert model.read_bytes() == before


def test_a_model_that_tensorrt_refuses(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 18, "own" : 1]> g (float[4] x) => (float[4] y) { y = own.Thing (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "in.onnx")
    with pytest.raises(EngineError, match=r"in\.onnx: tensorrt-rtx \S+ refuses it: .*Thing") as raised:
        rms_deploy.build(tmp_path / "in.onnx", tmp_path / "e.engine", **RTX)
    assert "\n" not in str(raised.value)
    assert names_in(tmp_path) == ["in.onnx"]
