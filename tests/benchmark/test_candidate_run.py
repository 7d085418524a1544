"""A run collects what its process answers, and stops at the first failure."""

from __future__ import annotations

from dataclasses import replace

from rms_deploy.benchmark.candidate_run import CandidateRun
from rms_deploy.benchmark.candidates import Candidate
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
            "warm_up": {"settled": True},
            "run": {"microseconds": self.microseconds, "seconds": 0.5},
            "memory": {"peak_memory": 30},
        }.get(do, {})

    def close(self):
        self.closed = True


def measured(process, candidate=CANDIDATE, rounds=6):
    run = CandidateRun(candidate, Method(rounds=rounds, warmup=7.0, threads=2), process)
    run.start()
    run.load({"file": "inputs.npz"})
    for _ in range(rounds):
        run.measure(0.1)
    run.finish()
    return run


def test_the_result_is_what_was_answered():
    first, run = measured(Process(microseconds=[4.0])), measured(Process())
    result = run.result(first)
    assert (result.name, result.model, result.note, result.norm_counts) == (
        "fused",
        "a.onnx",
        "1 left",
        {"fused RMSNorm": 2},
    )
    assert (result.load_seconds, result.first_run_seconds, result.settled) == (0.5, 0.25, True)
    assert (result.memory_before, result.peak_memory) == (10, 30)
    assert (result.latency.median, result.latency.throughput) == (2.0, 2.0)
    assert (result.speedup.value, result.speedup.verdict) == (2.0, "faster")
    assert first.result(first).speedup is None
    assert run.process.closed
    loading = dict(run.process.asked)["load"]
    assert loading == {
        "runtime": "onnxruntime",
        "model": "/tmp/fused.onnx",
        "library": True,
        "threads": 2,
        "timeout": 600.0,
        "generate": None,
        "inputs": {"file": "inputs.npz"},
    }


def test_after_a_failure_nothing_more_is_asked():
    run = measured(Process(fails="load"))
    assert [do for do, _ in run.process.asked] == ["start", "load"]
    result = run.result(measured(Process()))
    assert (result.failure, result.latency, result.speedup) == ("load was refused", None, None)
    assert measured(Process()).result(run).speedup is None


def test_a_candidate_that_failed_beforehand_is_not_run():
    run = measured(Process(), replace(CANDIDATE, failure="cannot be made"))
    assert run.process.asked == []
    assert run.process.closed
    assert run.result(run).failure == "cannot be made"


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
    counts = [{"requests": n, "executions": n, "queue": 3000 * n, "compute": 5000 * n} for n in (10, 20)]
    process = Asking(*counts)
    result = measured(process, SERVED).result(measured(Process()))
    assert result.server == ServerTimes(10, queue=3.0, compute=5.0, batched=1.0)
    assert (result.memory_before, result.peak_memory) == (None, None)
    asked = [do for do, _ in process.asked]
    assert asked == ["start", "load", "warm_up", "server_statistics", *6 * ["run"], "server_statistics"]
    load = dict(process.asked)["load"]
    assert (load["model"], load["timeout"]) == ("grpc://h:1/m", 600.0)


def test_a_server_that_counts_nothing():
    assert measured(Asking(None), SERVED).result(measured(Process())).server is None


def test_a_failure_does_not_name_the_endpoint_twice():
    class Refusing(Process):
        def ask(self, *_, **__):
            raise RunError("grpc://h:1/m: the server has no model m")

    assert measured(Refusing(), SERVED).failure == "the server has no model m"
