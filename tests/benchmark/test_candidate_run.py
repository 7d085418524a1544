"""A run collects what its process answers, and stops at the first failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rms_deploy.benchmark.candidate_run import CandidateRun
from rms_deploy.benchmark.candidates import Candidate
from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.server_times import ServerTimes
from rms_deploy.errors import RunError

CANDIDATE = Candidate("fused", "a.onnx", "/tmp/fused.onnx", "a.onnx", note="1 left", norm_counts={"fused RMSNorm": 2})


class Process:
    """Answers as the process of a candidate does; `fails` names the request that it refuses."""

    def __init__(self, fails=None, microseconds=(2.0,)):
        self.fails, self.microseconds = fails, list(microseconds)
        self.asked, self.closed = [], False

    def ask(self, do, **request):
        self.asked.append((do, request))
        if do == self.fails:
            raise RunError(f"{do} was refused")
        return {
            "load": {"load_seconds": 0.5, "first_run_seconds": 0.25, "memory_before": 10},
            "warm_up": {"settled": True, "run_seconds": 0.125},
            "run": {"microseconds": self.microseconds, "seconds": 0.5},
            "memory": {"peak_memory": 30},
            "device_times": {"device_times": {"enqueue": 1.0, "compute": 2.0, "upload": 3.0, "download": 4.0}},
        }.get(do, {})

    def close(self):
        self.closed = True


def measured(*processes, candidate=CANDIDATE, rounds=2):
    """A candidate after one launch for each process; None: it has failed beforehand and gets none."""
    run = CandidateRun(candidate, Method(rounds=rounds, warmup=7.0, threads=2))
    for process in processes:
        run.start(process)
        run.load({"file": "inputs.npz"})
        for _ in range(rounds):
            run.measure(0.1, 5)
        run.finish()
    return run


def launches(count, **options):
    return [Process(**options) for _ in range(count)]


def test_the_result_is_what_was_answered():
    first, run = measured(*launches(3, microseconds=[4.0])), measured(*launches(3))
    result = run.result(first, noise=1.5)
    assert (result.name, result.model, result.note, result.norm_counts) == (
        "fused",
        "a.onnx",
        "1 left",
        {"fused RMSNorm": 2},
    )
    assert (result.load_seconds, result.first_run_seconds, result.settled) == (0.5, 0.25, True)
    assert (result.memory_before, result.peak_memory) == (10, 30)
    assert (result.latency.median, result.latency.throughput) == (2.0, 2.0)
    assert result.latency.round_medians == ((2.0, 2.0),) * 3
    assert (result.speedup.value, result.speedup.noise, result.speedup.verdict) == (pytest.approx(2.0), 1.5, "faster")
    assert run.result(first, noise=2.5).speedup.verdict == "within noise"
    assert first.result().speedup is None
    assert run.run_seconds == 0.125
    assert run.process.closed
    assert dict(run.process.asked)["run"] == {"seconds": 0.1, "runs": 5, "clients": 1}
    loading = dict(run.process.asked)["load"]
    assert loading == {
        "runtime": "onnxruntime",
        "model": "/tmp/fused.onnx",
        "library": True,
        "threads": 2,
        "timeout": 600.0,
        "generate": None,
        "cuda_graph": True,
        "inputs": {"file": "inputs.npz"},
    }


def test_what_launches_tell_of_themselves_is_their_median():
    class Loading(Process):
        def __init__(self, seconds, settled):
            super().__init__()
            self.seconds, self.settled = seconds, settled

        def ask(self, do, **request):
            answer = super().ask(do, **request)
            return answer | {"load": {"load_seconds": self.seconds}, "warm_up": {"settled": self.settled}}.get(do, {})

    result = measured(Loading(9.0, True), Loading(1.0, False), Loading(2.0, True)).result()
    assert (result.load_seconds, result.settled, result.memory_before) == (2.0, False, 10)


def test_a_failure_in_a_later_launch_is_the_candidates():
    run = measured(Process(), Process(fails="run"), Process())
    assert run.result().failure == "run was refused"
    assert run.result().latency is None


def test_an_engine_tells_its_time_on_host_and_gpu():
    engine = Candidate("a.engine", "a.engine", "/a.engine", "a.onnx", runtime="tensorrt", library=False)
    result = measured(*launches(3), candidate=engine).result()
    assert result.device_times == DeviceTimes(enqueue=1.0, compute=2.0, upload=3.0, download=4.0)
    assert measured(Process()).result().device_times is None


def test_after_a_failure_nothing_more_is_asked():
    run = measured(Process(fails="load"))
    assert [do for do, _ in run.process.asked] == ["start", "load"]
    result = run.result(measured(Process()))
    assert (result.failure, result.latency, result.speedup) == ("load was refused", None, None)
    assert measured(Process()).result(run).speedup is None


def test_a_candidate_that_failed_beforehand_is_not_run():
    process = Process()
    run = measured(process, candidate=replace(CANDIDATE, failure="cannot be made"))
    assert process.asked == []
    assert process.closed
    assert run.result().failure == "cannot be made"


SERVED = Candidate("grpc://h:1/m", "grpc://h:1/m", "grpc://h:1/m", "a.onnx", runtime="endpoint", library=False)


class Asking(Process):
    """The process of an endpoint, whose server has counted `counts`, one after the other."""

    def __init__(self, *counts, **options):
        super().__init__(**options)
        self.counts = list(counts)

    def ask(self, do, **request):
        answer = super().ask(do, **request)
        return {"server_statistics": self.counts.pop(0)} if do == "server_statistics" else answer


def test_what_a_server_counts_during_the_rounds():
    counts = [{"requests": n, "executions": n, "queue": 3000 * n, "compute": 5000 * n} for n in (10, 20, 25, 45)]
    process = Asking(*counts[:2])
    result = measured(process, Asking(*counts[2:]), candidate=SERVED).result()
    assert result.server == ServerTimes(30, queue=3.0, compute=5.0, batched=1.0)
    assert (result.memory_before, result.peak_memory) == (None, None)
    asked = [do for do, _ in process.asked]
    assert asked == ["start", "load", "warm_up", "server_statistics", *2 * ["run"], "server_statistics"]
    load = dict(process.asked)["load"]
    assert (load["model"], load["timeout"]) == ("grpc://h:1/m", 600.0)


def test_a_server_that_counts_nothing():
    assert measured(Asking(None), candidate=SERVED).result().server is None


def test_a_failure_does_not_name_the_endpoint_twice():
    class Refusing(Process):
        def ask(self, *_, **__):
            raise RunError("grpc://h:1/m: the server has no model m")

    assert measured(Refusing(), candidate=SERVED).failure == "the server has no model m"
