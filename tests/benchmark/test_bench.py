"""Candidates take turns; what fails is reported; nothing here depends on how fast anything is."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from importlib import metadata

import numpy as np
import onnx
import pytest

from rms_deploy.benchmark import bench as module
from rms_deploy.benchmark import candidate_inputs
from rms_deploy.benchmark.bench import bench
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.report import table
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import InputError, ModelFileError
from rms_deploy.onnx_model.file import load_model

from ..made_models import fused_norm, write
from .made_decoder import decoder

METHOD = Method(launches=1, rounds=3, duration=0.03, warmup=0.0)
QUICK = {"method": METHOD}
CRASH = "import os, signal, sys; sys.stdin.readline(); print('lost a pointer', file=sys.stderr, flush=True); {}"


def crash(monkeypatch, codes):
    """Replace the processes of some candidates by ones that run `codes[index]` when they are first asked."""
    started = []

    def command(module):
        started.append(None)
        code = codes.get(len(started) - 1)
        return original(module) if code is None else [sys.executable, "-S", "-c", CRASH.format(code)]

    original = BenchmarkProcess.command
    monkeypatch.setattr(BenchmarkProcess, "command", staticmethod(command))


def test_generation_begins_with_an_empty_cache_and_is_told_per_token(tmp_path):
    onnx.save(decoder(), tmp_path / "a.onnx")
    onnx.save(decoder(), tmp_path / "b.onnx")
    method = replace(METHOD, generate=3)
    result = bench([tmp_path / "a.onnx", tmp_path / "b.onnx"], dims={"s": 5, "t": 5}, library=False, method=method)
    assert not result.failed
    assert result.shapes["past_0_key"] == (2, 1, 0, 4)
    assert result.shapes["input_ids"] == (2, 5)
    assert "tokens/s" in table.header(result)
    assert "runs/s" not in table.header(result)
    assert any("a run generates 3 tokens" in line for line in table.provenance(result))
    latency = result.candidates[1].latency
    assert latency.throughput == pytest.approx(1e6 / np.mean(latency.round_medians), rel=0.9)


def test_generation_and_operator_times_do_not_go_together(tmp_path):
    onnx.save(decoder(), tmp_path / "a.onnx")
    with pytest.raises(InputError, match="`operator_times` are those of one run of the model; leave out `generate`"):
        bench(tmp_path / "a.onnx", operator_times=True, method=replace(METHOD, generate=3))


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
        assert [len(rounds) for rounds in candidate.latency.round_medians] == [3]
        assert candidate.latency.runs >= 3
        assert candidate.load_seconds > 0
        assert candidate.first_run_seconds > 0
        assert candidate.peak_memory >= candidate.memory_before > 0
        assert candidate.latency.throughput > 0
    assert [candidate.speedup is None for candidate in result.candidates] == [True, False]
    assert result.shapes == {"x": (3, 8)}
    assert steps[:2] == [(i, 8, f"launch 1: loading {paths[i]}") for i in range(2)]
    assert steps[2:] == [(i, 8, f"launch 1 of 1, round {i // 2} of 3") for i in range(2, 8)]

    first, second = dict.fromkeys(who for who, _, _ in asked)
    rounds = [who for who, do, request in asked if do == "run" and request["seconds"] > 0]
    assert rounds == [first, second, second, first, first, second]
    loads = [{**request, "model": ""} for _, do, request in asked if do == "load"]
    assert loads[0] == loads[1]


def test_launches_start_all_anew_and_the_first_takes_part_twice(tmp_path, monkeypatch):
    started = []
    original = BenchmarkProcess.__init__

    def init(self, *arguments):
        started.append(self)
        original(self, *arguments)

    monkeypatch.setattr(BenchmarkProcess, "__init__", init)
    paths = [write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")]
    result = bench(paths, library=False, method=replace(METHOD, launches=3, rounds=2))
    assert len(started) == 3 * 3
    (point,) = result.points
    assert [candidate.name for candidate in point.candidates] == [str(path) for path in paths]
    assert point.again.name == f"{paths[0]} (A/A)"
    for candidate in (*point.candidates, point.again):
        assert [len(rounds) for rounds in candidate.latency.round_medians] == [2, 2, 2]
        assert candidate.latency.low <= candidate.latency.high
    assert point.candidates[1].speedup.noise == point.again.speedup.spread > 1
    assert point.again.speedup.noise is None
    assert not result.undecided


def test_one_candidate_has_no_second_copy(tmp_path):
    (point,) = bench(write(tmp_path / "a.onnx"), library=False, method=replace(METHOD, launches=3)).points
    assert point.again is None
    assert len(point.candidates[0].latency.round_medians) == 3


def test_too_few_launches_decide_nothing(tmp_path):
    result = bench([write(tmp_path / "a.onnx")] * 2, library=False, method=replace(METHOD, launches=2))
    assert result.candidates[1].speedup.verdict == "too few launches"
    assert result.undecided
    assert result.points[0].again is None


def test_the_time_of_all_points_is_shared_out(tmp_path, monkeypatch):
    """A clock that stands still: the second of two points gets all that is left, and half of it goes to the first."""
    monkeypatch.setattr(module, "perf_counter", lambda: 100.0)
    ends = []
    original = module.measure_launches

    def measured(*arguments, end, **options):
        ends.append(end)
        return original(*arguments, end=None, **options)

    monkeypatch.setattr(module, "measure_launches", measured)
    method = replace(METHOD, max_time=60.0)
    bench(write(tmp_path / "a.onnx"), sweep={"batch": (1, 2)}, library=False, method=method)
    assert ends == [130.0, 160.0]


def test_a_model_with_our_ops_is_measured_without_the_library_too(tmp_path):
    plain, fused = write(tmp_path / "a.onnx"), fused_norm(tmp_path / "b.onnx")
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
        ({"method": Method(threads=0)}, "`threads` is 0; use at least 1"),
        ({"runtimes": ("onnx",)}, "runtime 'onnx' is not known; use onnxruntime, "),
        ({"inputs": "x.npz", "sweep": {"batch": (1, 2)}}, "leave the shapes out"),
        ({"sweep": {"z": (1,)}}, "the model has no dynamic dimension 'z'"),
        ({"inputs": "x.npz", "dims": {"batch": 1}}, "leave the shapes out"),
        ({"inputs": "x.npz"}, "x.npz: no such file"),
        ({"shapes": {"z": (1,)}}, "the model has no input 'z'"),
        ({"dims": {"z": 1}}, "the model has no dynamic dimension 'z'"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_process_starts(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(BenchmarkProcess, "__init__", lambda *_: pytest.fail("started"))
    with pytest.raises(InputError, match=message):
        bench([write(tmp_path / "a.onnx")], **options)
    with pytest.raises(InputError, match="no model to measure"):
        bench([])
    with pytest.raises(ModelFileError, match="no such file"):
        bench([tmp_path / "a.onnx", tmp_path / "missing.onnx"])


def test_no_process_is_left_behind(tmp_path, monkeypatch):
    started = []
    original = BenchmarkProcess.__init__

    def init(self, *arguments):
        original(self, *arguments)
        started.append(self._process)

    monkeypatch.setattr(BenchmarkProcess, "__init__", init)

    def interrupt(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench([write(tmp_path / "a.onnx")] * 2, library=False, on_progress=interrupt, **QUICK)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_a_process_that_hangs_is_that_candidates_failure(tmp_path, monkeypatch):
    """The second is asked once only, and hangs; it alone has a time limit that can be waited for."""
    crash(monkeypatch, {1: "import time; time.sleep(10000)"})
    limits = iter([600.0, 0.1])
    original = BenchmarkProcess.__init__
    monkeypatch.setattr(BenchmarkProcess, "__init__", lambda self, timeout: original(self, min(timeout, next(limits))))
    paths = [write(tmp_path / f"{i}.onnx") for i in range(2)]
    result = bench(paths, library=False, method=replace(METHOD, timeout=500))
    failures = [candidate.failure for candidate in result.candidates]
    assert failures == [None, "it gave no answer within 0.1 s, and was ended; a longer `timeout` waits longer"]


def test_a_sweep_measures_every_combination(tmp_path):
    path = write(tmp_path / "a.onnx", inputs="float[batch,seq] x")
    result = bench([path], sweep={"batch": (1, 2), "seq": (8,)}, library=False, method=replace(METHOD, concurrency=2))
    assert [point.dims for point in result.points] == [{"batch": 1, "seq": 8}, {"batch": 2, "seq": 8}]
    assert [point.shapes for point in result.points] == [{"x": (1, 8)}, {"x": (2, 8)}]
    assert all(point.candidates[0].latency.runs >= 3 * 2 for point in result.points)


def test_inputs_come_from_a_file(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", x=np.full((5, 8), 2, np.float32))
    written = []
    original = candidate_inputs.write
    monkeypatch.setattr(candidate_inputs, "write", lambda feeds, path: written.append(feeds) or original(feeds, path))
    paths = [write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")]
    result = bench(paths, inputs=tmp_path / "x.npz", library=False, **QUICK)
    assert result.shapes == {"x": (5, 8)}
    assert not result.failed
    assert len(written) == 1, "one file for all"
    assert (written[0]["x"] == 2).all()


def test_variants_of_one_model_are_made_compared_and_their_operators_timed(tmp_path):
    path = fused_norm(tmp_path / "a.onnx")
    result = bench([path], compare=("decomposed", "fused", "onnxruntime"), operator_times=True, **QUICK)
    assert not result.failed, [candidate.failure for candidate in result.candidates]
    assert [candidate.name for candidate in result.candidates] == ["decomposed", "fused", "onnxruntime"]
    counts = [dict(candidate.norm_counts) for candidate in result.candidates]
    assert counts == [{"decomposed RMSNorm": 1}, {"fused RMSNorm": 1}, {"onnxruntime SimplifiedLayerNormalization": 1}]
    assert all(candidate.operator_times is not None for candidate in result.candidates)
    assert result.inspection["form_count"] == {"fused RMSNorm": 1}


def test_models_in_memory_are_written_and_named_by_their_places(tmp_path):
    path = fused_norm(tmp_path / "a.onnx")
    proto = onnx.load(path)
    before = proto.SerializeToString()
    result = bench([proto, path, load_model(path)], **QUICK)
    assert not result.failed, [candidate.failure for candidate in result.candidates]
    assert [candidate.name for candidate in result.candidates] == ["model 1", str(path), "model 3"]
    assert [candidate.norm_counts for candidate in result.candidates] == [{"fused RMSNorm": 1}] * 3
    assert proto.SerializeToString() == before
    alone = bench(proto, compare=("decomposed", "original"), **QUICK)
    assert [(c.name, c.model) for c in alone.candidates] == [("decomposed", "model 1"), ("original", "model 1")]
    assert not alone.failed


def test_a_variant_that_cannot_be_made_is_its_failure(tmp_path):
    result = bench([write(tmp_path / "a.onnx")], compare=("original", "fused"), library=False, **QUICK)
    assert [c.failure for c in result.candidates] == [None, "the model has no RMSNorm to fuse"]
    assert result.candidates[0].latency is not None


def test_operator_times_that_fail_are_a_note(tmp_path, monkeypatch):
    crash(monkeypatch, {1: "sys.exit(5)"})
    result = bench([write(tmp_path / "a.onnx")], library=False, operator_times=True, **QUICK)
    (candidate,) = result.candidates
    assert candidate.latency is not None
    assert candidate.operator_times is None
    assert candidate.note == "no operator times: its process ended with exit code 5: lost a pointer"


def test_operator_times_end_with_the_time(tmp_path):
    method = replace(METHOD, max_time=0.001)
    (candidate,) = bench(write(tmp_path / "a.onnx"), library=False, operator_times=True, method=method).candidates
    assert candidate.latency is not None
    assert candidate.note == "no operator times: `max_time` was over"


@pytest.mark.slow
def test_torch_runs_the_module_of_the_model(tmp_path, monkeypatch):
    (tmp_path / "user_module.py").write_text(
        "import torch\n"
        "class Exp(torch.nn.Module):\n"
        "    def forward(self, x): return torch.exp(x)\n"
        "def make(): return Exp(), (torch.ones(2, 8),)\n"
        "def two(): return Exp(), (torch.ones(2, 8), torch.ones(1))\n"
    )
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.onnx")
    result = bench([path], module="user_module:make", runtimes=("onnxruntime", "torch"), library=False, **QUICK)
    assert not result.failed, [candidate.failure for candidate in result.candidates]
    assert [candidate.name for candidate in result.candidates] == [str(path), "user_module:make torch"]
    assert "torch" in result.provenance.versions
    result = bench([path], module="user_module:two", runtimes=("torch",), library=False, **QUICK)
    assert "its example call has 2 arguments and the ONNX file 1 inputs" in result.candidates[0].failure


def test_without_torch_its_candidate_fails_and_the_result_stays(tmp_path, monkeypatch):
    def without_torch(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    original = metadata.distribution
    monkeypatch.setattr(metadata, "distribution", without_torch)
    result = bench([write(tmp_path / "a.onnx")], module="nowhere:make", runtimes=("torch",), library=False, **QUICK)
    assert "nowhere" in result.candidates[0].failure
    assert "torch" not in result.provenance.versions


def test_an_engine_takes_the_inputs_of_the_first_model(tmp_path):
    path, engine = write(tmp_path / "a.onnx"), tmp_path / "a.engine"
    engine.write_bytes(b"no engine")
    result = bench([path, engine], library=False, **QUICK)
    assert [(c.name, c.runtime) for c in result.candidates] == [(str(path), "onnxruntime"), (str(engine), "tensorrt")]
    assert result.candidates[0].latency is not None
    assert result.candidates[1].failure, "no engine, or no TensorRT"
    assert "\n" not in result.candidates[1].failure


@pytest.mark.slow
def test_servers_beside_the_session_over_several_numbers_of_clients(tmp_path):
    from ..made_server import Model, serving

    path = write(tmp_path / "a.onnx")
    model = Model(lambda feeds: {"y": np.exp(feeds["x"])}, {"x": "FP32"}, {"y": "FP32"})
    with serving(model, "grpc") as grpc, serving(model, "http") as http:
        models = [path, grpc, http, grpc.replace("/m", "/n")]
        result = bench(models, concurrency=(1, 3), library=False, shapes={"x": (3, 8)}, **QUICK)
    assert [point.dims for point in result.points] == [{"concurrency": 1}, {"concurrency": 3}]
    assert result.failed
    for point in result.points:
        session, *served, missing = point.candidates
        assert session.server is None
        assert missing.failure == "the server has no model n; it has m, other"
        for candidate in served:
            assert candidate.failure is None
            assert candidate.latency.runs >= 3 * point.dims["concurrency"]
            assert (candidate.server.queue, candidate.server.compute) == (2.0, 12.0)
            assert candidate.server.batched == pytest.approx(2.0, rel=0.2)  # an odd number of requests may be counted
            assert candidate.speedup is not None


def test_a_server_that_dies_is_that_candidates_failure_and_the_others_go_on(tmp_path, monkeypatch):
    from ..made_server import Model, serving

    path = write(tmp_path / "a.onnx")
    model = Model(lambda feeds: {"y": np.exp(feeds["x"])}, {"x": "FP32"}, {"y": "FP32"})
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(model, "grpc"))
        original = BenchmarkProcess.ask

        def ask(self, do, **request):
            if do == "run":
                stack.close()
            return original(self, do, **request)

        monkeypatch.setattr(BenchmarkProcess, "ask", ask)
        result = bench([path, url], library=False, **QUICK)
    session, served = result.candidates
    assert session.latency is not None
    assert served.failure.startswith("the server is not available: ")


def test_numbers_of_clients_out_of_range(tmp_path):
    with pytest.raises(InputError, match="`concurrency` is 0; use at least 1"):
        bench(write(tmp_path / "a.onnx"), concurrency=(1, 0))
