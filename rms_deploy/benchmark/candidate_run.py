"""The run of one candidate: its process, and what the process has answered so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rms_deploy.benchmark.candidates import ENDPOINT, Candidate
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
    process: BenchmarkProcess
    loaded: dict[str, Any] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0
    operator_times: OperatorTimes | None = None
    counted: dict[str, int] | None = None
    """What the server of an endpoint had counted before the rounds; None: it counts nothing."""
    server: ServerTimes | None = None
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

    def start(self) -> None:
        """Let the process import what every candidate needs, or end it if the candidate has failed beforehand."""
        if self.failure is not None:
            self.process.close()
        self._ask("start")

    def load(self, inputs: Mapping[str, Any]) -> None:
        """Load the model, run it once, and warm up."""
        runtime, timeout, generate = self.candidate.runtime, self.method.timeout, self.method.generate
        self.loaded = self._ask("load", runtime=runtime, timeout=timeout, generate=generate, **self._model(inputs))
        self.loaded |= self._ask("warm_up", seconds=self.method.warmup, clients=self.method.concurrency)
        if self.is_served:
            self.loaded |= {"memory_before": None}
            self.counted = self._server_statistics()

    def measure(self, seconds: float) -> None:
        """Measure one round of so many seconds."""
        answer = self._ask("run", seconds=seconds, clients=self.method.concurrency)
        self.rounds.append(answer.get("microseconds", []))
        self.seconds += answer.get("seconds", 0.0)

    def finish(self) -> None:
        """Ask for what is final now, the peak memory or what the server has counted, and end the process."""
        if not self.is_served:
            self.loaded |= self._ask("memory")
        elif self.counted is not None and (after := self._server_statistics()) is not None:
            self.server = ServerTimes.between(self.counted, after)
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

    def result(self, first: CandidateRun) -> CandidateResult:
        """What was measured, compared with `first`."""
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
        compared = self is not first and first.failure is None
        return replace(
            described,
            latency=latency,
            speedup=Speedup.of(first._latency(), latency) if compared else None,
            operator_times=self.operator_times,
            server=self.server,
            **self.loaded,
        )

    def _latency(self) -> Latency:
        return Latency.of(self.rounds, percentiles=self.method.percentiles, seconds=self.seconds)

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
        if self.failure is not None:
            return {}
        try:
            return self.process.ask(do, **request)
        except RunError as error:
            self.failure = str(error).removeprefix(f"{self.name}: ")
            return {}
