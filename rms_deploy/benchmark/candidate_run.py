"""The run of one candidate: its processes, one after the other, and what they have answered so far."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from rms_deploy.benchmark.candidates import ENDPOINT, Candidate
from rms_deploy.benchmark.device_times import DeviceTimes
from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.operator_times import OperatorTimes
from rms_deploy.benchmark.result import CandidateResult
from rms_deploy.benchmark.server_times import ServerTimes
from rms_deploy.benchmark.worker.process import BenchmarkProcess
from rms_deploy.errors import RunError

__all__ = ["CandidateRun"]


@dataclass
class CandidateRun:
    """A candidate while it is measured. Once it has failed, every further step does nothing."""

    candidate: Candidate
    method: Method
    process: BenchmarkProcess | None = None
    """Of the launch that runs."""
    loaded: list[dict[str, Any]] = field(default_factory=list)
    """What the process of each launch has told of itself."""
    launches: list[list[list[float]]] = field(default_factory=list)
    """Microseconds of each run, in each round of each launch."""
    seconds: float = 0.0
    operator_times: OperatorTimes | None = None
    device_times: list[DeviceTimes] = field(default_factory=list)
    """Of each launch."""
    counted: list[tuple[dict[str, int], dict[str, int]]] = field(default_factory=list)
    """What the server of an endpoint had counted before the rounds of each launch, and after them."""
    failure: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        self.failure = self.candidate.failure
        self.note = self.candidate.note

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name

    @property
    def is_served(self) -> bool:
        """Whether a server runs the model, and the process only asks it."""
        return self.candidate.runtime == ENDPOINT

    @property
    def run_seconds(self) -> float:
        """About how long one run takes, as the latest launch has shown; 0 if it has failed."""
        latest = self.loaded[-1] if self.loaded else {}
        return float(latest.get("run_seconds") or latest.get("first_run_seconds", 0.0))

    def start(self, process: BenchmarkProcess) -> None:
        """A launch begins: its process imports what every candidate needs."""
        self.process = process
        self.launches.append([])
        self._ask("start")

    def load(self, inputs: Mapping[str, Any]) -> None:
        """Load the model, run it once, and warm up."""
        model = {**self._model(inputs), "runtime": self.candidate.runtime, "timeout": self.method.timeout}
        loaded = self._ask("load", **model, cuda_graph=self.method.cuda_graph, generate=self.method.generate)
        loaded |= self._ask("warm_up", seconds=self.method.warmup, clients=self.method.concurrency)
        self.loaded.append(loaded | ({"memory_before": None} if self.is_served else {}))
        if self.is_served and (before := self._server_statistics()) is not None:
            self.counted.append((before, before))

    def measure(self, seconds: float, runs: int = 1) -> None:
        """Measure one round of so many seconds, and of so many runs at least."""
        answer = self._ask("run", seconds=seconds, runs=runs, clients=self.method.concurrency)
        if self.failure is None:
            self.launches[-1].append(answer["microseconds"])
            self.seconds += answer["seconds"]

    def finish(self) -> None:
        """The launch ends: ask for what is final now, such as the peak memory, and end the process."""
        if self.process is None:
            return
        if not self.is_served and self.loaded:
            self.loaded[-1] |= self._ask("memory")
        elif self.counted and (after := self._server_statistics()) is not None:
            self.counted[-1] = self.counted[-1][0], after
        if self.candidate.runtime == "tensorrt" and (times := self._ask("device_times").get("device_times")):
            self.device_times.append(DeviceTimes(**times))
        self.process.close()

    def time_operators(self, inputs: Mapping[str, Any]) -> None:
        """Measure the operator times, in a process of their own: the profiler slows the run down."""
        if self.failure is not None or self.candidate.runtime != "onnxruntime":
            return
        process = BenchmarkProcess(self.method.timeout)
        try:
            answer = process.ask("operator_times", **self._model(inputs))["operator_times"]
        except RunError as error:
            self.note = f"no operator times: {error}"
            return
        finally:
            process.close()
        self.operator_times = OperatorTimes.from_dict(answer)

    def result(self, first: CandidateRun | None = None, *, noise: float | None = None) -> CandidateResult:
        """What was measured.

        Args:
            first: what it is compared with, if with anything.
            noise: of the A/A pair.
        """
        candidate = self.candidate
        described = CandidateResult(
            name=candidate.name,
            model=candidate.model,
            runtime=candidate.runtime,
            library=candidate.library,
            note=self.note,
            norm_counts=candidate.norm_counts,
            failure=self.failure,
        )
        if self.failure is not None:
            return described
        latency = self._latency()
        compared = first is not None and first.failure is None
        return replace(
            described,
            latency=latency,
            speedup=Speedup.of(first._latency(), latency, noise=noise) if first is not None and compared else None,
            operator_times=self.operator_times,
            device_times=DeviceTimes.median_of(self.device_times),
            server=self._server_times(),
            **self._loaded(),
        )

    def _latency(self) -> Latency:
        return Latency.of(self.launches, percentiles=self.method.percentiles, seconds=self.seconds)

    def _loaded(self) -> dict[str, Any]:
        """The times and sizes of the launches as one: the median, and whether all settled."""
        found: dict[str, Any] = {"settled": all(each.get("settled", True) for each in self.loaded)}
        for name in ("load_seconds", "first_run_seconds", "memory_before", "peak_memory"):
            values = [each[name] for each in self.loaded if each.get(name) is not None]
            found[name] = type(values[0])(median(values)) if values else None
        return found

    def _server_times(self) -> ServerTimes | None:
        """Over all launches."""
        before, after = Counter[str](), Counter[str]()
        for begun, ended in self.counted:
            before.update(begun)
            after.update(ended)
        return ServerTimes.between(before, after) if self.counted else None

    def _model(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a process is told of the model, for the latency and for the operator times."""
        candidate, target = self.candidate, self.candidate.target
        if not self.is_served and not candidate.runtime.startswith("torch"):
            target = os.path.abspath(target)  # noqa: PTH100 - keeps links
        return {"model": target, "library": candidate.library, "threads": self.method.threads, "inputs": inputs}

    def _server_statistics(self) -> dict[str, int] | None:
        answer = self._ask("server_statistics", model=self.candidate.target, timeout=self.method.timeout)
        return answer.get("server_statistics")

    def _ask(self, do: str, **request: Any) -> dict[str, Any]:
        if self.failure is not None or self.process is None:
            return {}
        try:
            return self.process.ask(do, **request)
        except RunError as error:
            self.failure = str(error).removeprefix(f"{self.name}: ")
            return {}
