from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

import rms_deploy as package
from rms_deploy.cli.main import rms_deploy
from rms_deploy.deployment.build_for_gpus import EngineSet, GpuEngine
from rms_deploy.deployment.engine_index import IndexedEngine
from rms_deploy.engine.record import EngineRecord
from rms_deploy.errors import InstallationError
from rms_deploy.runtime.engine_file import read_record

MODEL = """<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>
one_norm (float[b, s, 64] X, float[64] scale) => (float[b, s, 64] Y) { Y = rms_deploy.RMSNorm (X, scale) }"""
DEVICE = ["--runtime", "tensorrt-rtx", "--device", "sm120"]


def invoke(*arguments):
    return CliRunner().invoke(rms_deploy, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "norm.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), path)
    return path


@pytest.fixture
def asked(monkeypatch):
    """What `rms_deploy.build` is called with; nothing is built."""
    calls = []

    def build(model, output, **options):
        calls.append({"model": model, "output": output, **options})
        return EngineRecord(
            engine=str(output),
            bytes=1,
            seconds=1.0,
            runtime="tensorrt",
            runtime_version="11.0",
            devices=(),
            optimization_profiles=(),
            inputs={},
            outputs={},
            norm="decomposed",
            reason="asked for",
            timings=(),
            norms=(),
            unfused_count=0,
            layers={},
            plugin=None,
            model={},
            options={},
            rms_deploy="0.1",
        )

    monkeypatch.setattr(package, "build", build, raising=False)
    return calls


@pytest.mark.parametrize(
    ("options", "profiles"),
    [
        ([], []),
        (["--shape", "x=1x1x64:8x128x64:32x512x64"], [{"x": ((1, 1, 64), (8, 128, 64), (32, 512, 64))}]),
        (["--shape", "x=1x64", "--shape", "a=b="], [{"x": ((1, 64),) * 3, "a=b": ((),) * 3}]),
        (["--shape", "x=1", "--shape", "y=2"], [{"x": ((1,),) * 3, "y": ((2,),) * 3}]),
        (["--shape", "x=1", "--shape", "x=3"], [{"x": ((1,),) * 3}, {"x": ((3,),) * 3}]),
        (
            ["--minShapes", "x:1x2,y:0:3", "--optShapes", "x:2x2,y:0:4", "--maxShapes", "x:9x2,y:0:5"],
            [{"x": ((1, 2), (2, 2), (9, 2)), "y:0": ((3,), (4,), (5,))}],
        ),
        (["--optShapes=x:1", "--optShapes=x:2"], [{"x": ((1,),) * 3}, {"x": ((2,),) * 3}]),
        (["--minShapes", "x:1", "--maxShapes", "x:4"], [{"x": ((1,), (4,), (4,))}]),
    ],
)
def test_optimization_profiles(options, profiles, asked):
    assert invoke("build", "m.onnx", *options).exit_code == 0
    assert asked[0]["optimization_profiles"] == profiles


@pytest.mark.parametrize(
    ("trtexec", "ours", "name", "value"),
    [
        (["--saveEngine=x.engine"], ["-o", "x.engine"], "output", Path("x.engine")),
        (["--timingCacheFile=c"], ["--timing-cache", "c"], "timing_cache", Path("c")),
        (["--builderOptimizationLevel=4"], ["--opt-level", "4"], "opt_level", 4),
        (["--stripWeights"], ["--strip-weights"], "strip_weights", True),
        (["--versionCompatible"], ["--version-compatible"], "version_compatible", True),
        (["--onnx=m.onnx"], ["m.onnx"], "model", Path("m.onnx")),
    ],
)
def test_options_of_trtexec(trtexec, ours, name, value, asked):
    model = [] if name == "model" else ["m.onnx"]
    for options in (trtexec, ours):
        assert invoke("-q", "build", *model, *options).exit_code == 0
    assert asked[0] == asked[1]
    assert asked[0][name] == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "1x64"], "'1x64' has no name; write it as x=1x64:8x64:32x64"),
        (["--shape", "x=1:2"], "'x=1:2' has 2 shapes; give min:opt:max, or one"),
        (["--shape", "x=axb"], "'x=axb': sizes are numbers with x between them"),
        (["--minShapes", "1x64"], "'1x64' has no name; write it as x:1x64"),
        (["--minShapes", "x:1", "--shape", "x=1"], "exclude each other"),
        (["--onnx", "n.onnx"], "Give MODEL or --onnx, one of them"),
        (["--opt-level", "6"], "6 is not in the range 0<=x<=5"),
        (["--norm", "fast"], "'fast' is not one of 'plugin', 'decomposed', 'auto'"),
    ],
)
def test_wrong_usage(options, message, asked):
    result = invoke("build", "m.onnx", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not asked


@pytest.mark.parametrize(("option", "dtype"), [("--fp16", "float16"), ("--bf16", "bfloat16")])
def test_the_types_are_those_of_the_model(option, dtype):
    result = invoke("build", "m.onnx", option)
    assert f"`rms-deploy cast in.onnx -o out.onnx --to {dtype}`" in result.stderr
    assert result.exit_code == 2
    assert f"{option}: an engine has the types of its model" in result.stderr


def test_options_reach_the_library(asked):
    invoke("build", "models/m.onnx", "--device", "sm120, sm89", "--no-embed-plugin", "--workspace", "64", "--refit")
    assert str(asked[0]["output"]) == "m.engine"
    assert asked[0]["devices"] == ("sm120", "sm89")
    assert (asked[0]["embed_plugin"], asked[0]["workspace"], asked[0]["refit"]) == (False, 64, True)


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")


@pytest.mark.usefixtures("rtx")
def test_decomposed(model, tmp_path):
    output = tmp_path / "out.engine"
    result = invoke("build", model, "-o", output, "--norm", "decomposed", "--opt-level", "1", *DEVICE)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(f"built {output} (tensorrt-rtx ")
    assert second == "norms: 1 of 1 are decomposed, no plugin layers (as asked for)"
    assert "note: the shapes X=1x1x64:2x16x64:32x256x64 were guessed; --shape sets them" in result.stderr
    assert read_record(output)["options"]["opt_level"] == 1


@pytest.mark.usefixtures("rtx")
def test_plugin(model, tmp_path):
    try:
        package.tensorrt_library()
    except InstallationError:
        pytest.skip("the plugin library is not built")
    result = invoke("-q", "build", model, "-o", tmp_path / "out.engine", "--norm", "plugin", "--json", *DEVICE)
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert (record["norm"], record["plugin_count"]) == ("plugin", 1)
    assert result.stderr == ""


@pytest.mark.usefixtures("rtx")
def test_plain_lines_where_stderr_is_no_terminal(model, tmp_path):
    result = invoke("build", model, "-o", tmp_path / "out.engine", "--norm", "decomposed", *DEVICE)
    lines = result.stderr.splitlines()
    assert lines[0] == f"building {tmp_path / 'out.engine'}"
    assert "  Building engine from subgraph" in lines
    assert len(lines) == len(set(lines))


@pytest.mark.usefixtures("rtx")
def test_advice_of_the_library_is_in_flags(model, tmp_path):
    result = invoke("-q", "build", model, "-o", tmp_path / "e", "--hardware-compatible", *DEVICE)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: tensorrt-rtx engines fit the devices that they are built for; "
        "leave --hardware-compatible out and take --device sm86,sm89\n"
    )


@pytest.fixture
def engines(monkeypatch):
    """What `rms_deploy.build_for_gpus` is called with; it says that one of two was built."""
    calls = []
    record = {"plugin_count": 1, "norm_count": 3, "bytes": 3 << 20, "seconds": 4.5}
    indexed = IndexedEngine("L4", "sm89", "m-L4.engine", "m-L4.engine.json", "m.onnx")

    def build_for_gpus(model, folder, **options):
        calls.append({"model": model, "folder": folder, **options})
        return EngineSet((GpuEngine("L4", indexed, record), GpuEngine("T4", failure="`norm` is odd")))

    monkeypatch.setattr(package, "build_for_gpus", build_for_gpus, raising=False)
    return calls


def test_an_engine_for_each_gpu_type(engines):
    result = invoke("build", "m.onnx", "--ray", "there:1", "--shape", "x=1x8", "--opt-level", "2")
    assert result.exit_code == 1
    header, row, failed, last = result.stdout.splitlines()
    assert header.split() == ["GPU", "type", "device", "engine", "norms", "MiB", "seconds"]
    assert row.split() == ["L4", "sm89", "m-L4.engine", "1", "of", "3", "plugins", "3.0", "4.5"]
    assert (failed, last) == ("T4 FAILED: --norm is odd", "built 1 of 2 engines -> m-engines")
    assert result.stderr == "Error: m.onnx: no engine for T4\n"
    (call,) = engines
    assert (str(call["model"]), str(call["folder"]), call["ray"], call["opt_level"]) == (
        "m.onnx",
        "m-engines",
        "there:1",
        2,
    )
    assert call["optimization_profiles"] == [{"x": ((1, 8),) * 3}]


def test_engines_as_json(engines):
    data = json.loads(invoke("build", "m.onnx", "-o", "out", "--ray", "auto", "--json").stdout)
    assert (data["folder"], data["engine_count"], data["engines"][0]["indexed"]["device"]) == ("out", 1, "sm89")
    assert str(engines[0]["folder"]) == "out"


def test_one_of_model_and_onnx(asked):
    result = invoke("build")
    assert (result.exit_code, asked) == (2, [])
    assert "Give MODEL or --onnx, one of them." in result.stderr


@pytest.mark.parametrize("device", ["sm90", "gpu"])
@pytest.mark.usefixtures("rtx")
def test_a_mistake_is_one_line(device, model, tmp_path):
    result = invoke("-q", "build", model, "-o", tmp_path / "e", "--runtime", "tensorrt-rtx", "--device", device)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: device {device} is not known to tensorrt-rtx")
    assert result.stderr.count("\n") == 1


def test_no_runtime_is_one_line(model, monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    result = invoke("-q", "build", model)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: tensorrt and tensorrt-rtx are not installed; "
        "run: pip install tensorrt or run: pip install tensorrt-rtx-cu13\n"
    )


@pytest.mark.usefixtures("rtx", "ctrl_c")
def test_ctrl_c_in_a_process_of_its_own(model, tmp_path):
    """The signal comes from within, at the first phase: no clock decides how far the build is."""
    script = """
import os, signal, time
from rms_deploy.engine.progress import BuildProgress
def interrupted(self, name, parent, steps):
    if parent is None:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
BuildProgress.start = interrupted
from rms_deploy.cli.main import main
main()
"""
    output = tmp_path / "out.engine"
    command = [sys.executable, "-c", script, "build", str(model), "-o", str(output), "--norm", "decomposed", *DEVICE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 1, done.stderr
    assert done.stderr.rstrip().endswith("Aborted!")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["norm.onnx"]
