"""Candidates take turns; what fails is reported; nothing here depends on how fast anything is."""

from __future__ import annotations

import sys

import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy import modelfile
from rms_deploy.benchmark import bench
from rms_deploy.benchmark_process import BenchmarkProcess
from rms_deploy.errors import InputError, ModelFileError
from rms_deploy.functions import attach_functions

QUICK = {"rounds": 3, "seconds": 0.03, "warmup": 0.0}
CRASH = "import os, signal, sys; sys.stdin.readline(); print('lost a pointer', file=sys.stderr, flush=True); {}"


def write(path, op="Exp", inputs="float[batch,8] x"):
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float[batch,8] y) {{ y = {op}(x) }}'
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def crash(monkeypatch, codes):
    """Replace the processes of some candidates by ones that run `codes[index]` when they are first asked."""
    started = []

    def command():
        started.append(None)
        code = codes.get(len(started) - 1)
        return original() if code is None else [sys.executable, "-S", "-c", CRASH.format(code)]

    original = BenchmarkProcess.command
    monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(command))


def test_every_candidate_is_measured_in_every_round_and_another_begins_each(tmp_path, monkeypatch):
    asked = []
    original = BenchmarkProcess.ask

    def ask(self, do, **request):
        asked.append((id(self), do, request))
        return original(self, do, **request)

    monkeypatch.setattr(BenchmarkProcess, "ask", ask)
    paths = [write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")]
    steps = []
    result = bench(paths, shapes={"x": (3, 8)}, library=False, on_progress=lambda *step: steps.append(step), **QUICK)
    assert not result.failed
    assert [candidate.model for candidate in result.candidates] == [str(path) for path in paths]
    for candidate in result.candidates:
        assert candidate.latency is not None
        assert len(candidate.latency.round_medians) == 3
        assert candidate.latency.runs >= 3
        assert candidate.load_seconds > 0
        assert candidate.first_run_seconds > 0
    assert [candidate.speedup is None for candidate in result.candidates] == [True, False]
    assert result.shapes == {"x": (3, 8)}
    assert steps[:2] == [(0, 8, f"loading {paths[0]}"), (1, 8, f"loading {paths[1]}")]
    assert steps[2:] == [(i, 8, f"round {i // 2} of 3") for i in range(2, 8)]

    first, second = dict.fromkeys(who for who, _, _ in asked)
    rounds = [who for who, do, request in asked if do == "run" and request["seconds"] > 0]
    assert rounds == [first, second, second, first, first, second]
    loads = [{**request, "model": ""} for _, do, request in asked if do == "load"]
    assert loads[0] == loads[1]


def test_a_model_with_our_ops_is_measured_without_the_library_too(tmp_path):
    plain, fused = write(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]> g (float[batch,8] x) => (float[batch,8] y) '
        "<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = rms_deploy.RMSNorm(x, w) }"
    )
    model = ir.from_proto(onnx.parser.parse_model(text))
    attach_functions(model)
    modelfile.save(model, fused)
    result = bench([plain, fused], also_without_library=True, **QUICK)
    assert not result.failed
    rows = [(candidate.model, candidate.library) for candidate in result.candidates]
    assert rows == [(str(plain), True), (str(fused), True), (str(fused), False)]
    assert all(candidate.speedup is not None for candidate in result.candidates[1:])
    assert len(bench([plain, fused], **QUICK).candidates) == 2
    assert len(bench([plain, fused], library=False, also_without_library=True, **QUICK).candidates) == 2


def test_a_crash_is_that_candidates_failure_and_the_others_go_on(tmp_path, monkeypatch):
    codes = {
        1: ("os.kill(os.getpid(), signal.SIGSEGV)", "its process was killed by SIGSEGV: lost a pointer"),
        2: ("sys.exit(3)", "its process ended with exit code 3: lost a pointer"),
        3: ("raise MemoryError('gone')", "its process ended with exit code 1: MemoryError: gone"),
        4: ("print('{', end='', flush=True); sys.exit(4)", "its process ended with exit code 4: lost a pointer"),
    }
    crash(monkeypatch, {index: code for index, (code, _) in codes.items()})
    paths = [write(tmp_path / f"{i}.onnx", "Nonsense" if i == 5 else "Exp") for i in range(7)]
    result = bench(paths, library=False, **QUICK)
    assert result.failed
    failures = [candidate.failure for candidate in result.candidates]
    assert failures[1:5] == [message for _, message in codes.values()]
    assert "Nonsense" in failures[5]
    assert "\n" not in failures[5]
    for index, candidate in enumerate(result.candidates):
        assert (candidate.latency is None) == (1 <= index <= 5)
    assert (failures[0], failures[6]) == (None, None)
    assert result.candidates[6].speedup is not None


def test_without_the_first_there_is_no_ratio(tmp_path, monkeypatch):
    crash(monkeypatch, {0: "os.abort()"})
    result = bench([write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx")], library=False, **QUICK)
    assert "SIGABRT" in result.candidates[0].failure
    assert result.candidates[1].latency is not None
    assert result.candidates[1].speedup is None


def test_the_working_folder_hides_no_package(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise ImportError('the wrong numpy')")
    (tmp_path / "rms_deploy").mkdir()
    (tmp_path / "rms_deploy" / "__init__.py").write_text("raise ImportError('the wrong package')")
    write(tmp_path / "a.onnx")
    monkeypatch.chdir(tmp_path)
    assert not bench(["a.onnx"], library=False, **QUICK).failed


def test_inputs_of_another_model_have_the_shape_of_the_first_ones(tmp_path):
    """The second model's own name for its batch is not the one that was given."""
    paths = [write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", inputs="float[n,8] x")]
    assert not bench(paths, dims={"batch": 3}, library=False, **QUICK).failed
    fixed = write(tmp_path / "c.onnx", inputs="float[4,8] x")
    with pytest.raises(InputError, match=r"input x: shape \[3, 8\] was given; the model takes float32\[4,8\]"):
        bench([paths[0], fixed], dims={"batch": 3}, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads is 0; use at least 1"),
        ({"rounds": 0}, "rounds is 0; use at least 1"),
        ({"seconds": -1}, "seconds is -1; use 0 or more"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"warmup": float("inf")}, "warmup is inf"),
        ({"shapes": {"z": (1,)}}, "the model has no input 'z'"),
        ({"dims": {"z": 1}}, "the model has no dynamic dimension 'z'"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_process_starts(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(BenchmarkProcess, "__init__", lambda _: pytest.fail("started"))
    with pytest.raises(InputError, match=message):
        bench([write(tmp_path / "a.onnx")], **options)
    with pytest.raises(InputError, match="no model to measure"):
        bench([])
    with pytest.raises(ModelFileError, match="no such file"):
        bench([tmp_path / "a.onnx", tmp_path / "missing.onnx"])


def test_no_process_is_left_behind(tmp_path, monkeypatch):
    started = []
    original = BenchmarkProcess.__init__

    def init(self):
        original(self)
        started.append(self._process)

    monkeypatch.setattr(BenchmarkProcess, "__init__", init)

    def interrupt(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench([write(tmp_path / "a.onnx")] * 2, library=False, on_progress=interrupt, **QUICK)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
