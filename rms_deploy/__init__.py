"""Every RMSNorm of a model as one fused kernel, on every runtime.

All but the errors is loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rms_deploy import errors
from rms_deploy.errors import (
    EngineError,
    ExportError,
    InputError,
    InstallationError,
    MissingDependencyError,
    ModelFileError,
    OutputError,
    RmsDeployError,
    RunError,
)

if TYPE_CHECKING:
    from rms_deploy.benchmark.bench import bench
    from rms_deploy.benchmark.method import Method
    from rms_deploy.benchmark.op.bench_op import bench_op
    from rms_deploy.benchmark.op.result import OpBenchmarkResult
    from rms_deploy.benchmark.report.regression import RunComparison, compare_runs
    from rms_deploy.benchmark.result import BenchmarkResult, CandidateResult
    from rms_deploy.benchmark.result_file import read_benchmark
    from rms_deploy.conversion.cast import CastResult, KeptNode, cast
    from rms_deploy.deployment.build_for_gpus import EngineSet, GpuEngine, build_for_gpus
    from rms_deploy.deployment.fuse_folder import FolderFusion, fuse_folder
    from rms_deploy.deployment.fuse_one import ModelFusion
    from rms_deploy.deployment.package import package
    from rms_deploy.deployment.result import PackageResult
    from rms_deploy.deployment.sweep import sweep
    from rms_deploy.display import Table
    from rms_deploy.engine.build import build
    from rms_deploy.engine.doctor import Diagnosis, doctor
    from rms_deploy.engine.inspect_engine import EngineInspection, inspect_engine
    from rms_deploy.engine.record import EngineNorm, EngineRecord
    from rms_deploy.exporter.export import export
    from rms_deploy.exporter.result import ExportedNorm, ExportResult
    from rms_deploy.exporter.swap import SwapReport, swap
    from rms_deploy.fusion.fuse import FusionResult, fuse
    from rms_deploy.fusion.inspect import Inspection, inspect
    from rms_deploy.fusion.near_miss import NearMiss
    from rms_deploy.fusion.norm import Norm
    from rms_deploy.fusion.unfuse import UnfusionResult, unfuse
    from rms_deploy.libraries import onnxruntime_library, tensorrt_library
    from rms_deploy.ops.forms import NormForm
    from rms_deploy.runtime.onnxruntime_session import session
    from rms_deploy.verification.check import Check, Divergence, Part
    from rms_deploy.verification.difference import Difference
    from rms_deploy.verification.pairs import ValuePair
    from rms_deploy.verification.result import Verification
    from rms_deploy.verification.verify import verify

    __version__: str

__all__ = [
    "BenchmarkResult",
    "CandidateResult",
    "CastResult",
    "Check",
    "Diagnosis",
    "Difference",
    "Divergence",
    "EngineError",
    "EngineInspection",
    "EngineNorm",
    "EngineRecord",
    "EngineSet",
    "ExportError",
    "ExportResult",
    "ExportedNorm",
    "FolderFusion",
    "FusionResult",
    "GpuEngine",
    "InputError",
    "Inspection",
    "InstallationError",
    "KeptNode",
    "Method",
    "MissingDependencyError",
    "ModelFileError",
    "ModelFusion",
    "NearMiss",
    "Norm",
    "NormForm",
    "OpBenchmarkResult",
    "OutputError",
    "PackageResult",
    "Part",
    "RmsDeployError",
    "RunComparison",
    "RunError",
    "SwapReport",
    "Table",
    "UnfusionResult",
    "ValuePair",
    "Verification",
    "__version__",
    "bench",
    "bench_op",
    "build",
    "build_for_gpus",
    "cast",
    "compare_runs",
    "doctor",
    "errors",
    "export",
    "fuse",
    "fuse_folder",
    "inspect",
    "inspect_engine",
    "onnxruntime_library",
    "package",
    "read_benchmark",
    "session",
    "swap",
    "sweep",
    "tensorrt_library",
    "unfuse",
    "verify",
]

_NAMES_OF = {
    "benchmark.bench": ("bench",),
    "benchmark.method": ("Method",),
    "benchmark.op.bench_op": ("bench_op",),
    "benchmark.op.result": ("OpBenchmarkResult",),
    "benchmark.report.regression": ("RunComparison", "compare_runs"),
    "benchmark.result": ("BenchmarkResult", "CandidateResult"),
    "benchmark.result_file": ("read_benchmark",),
    "conversion.cast": ("CastResult", "KeptNode", "cast"),
    "deployment.build_for_gpus": ("EngineSet", "GpuEngine", "build_for_gpus"),
    "deployment.fuse_folder": ("FolderFusion", "fuse_folder"),
    "deployment.fuse_one": ("ModelFusion",),
    "deployment.sweep": ("sweep",),
    "deployment.package": ("package",),
    "deployment.result": ("PackageResult",),
    "display": ("Table",),
    "engine.build": ("build",),
    "engine.doctor": ("Diagnosis", "doctor"),
    "engine.inspect_engine": ("EngineInspection", "inspect_engine"),
    "engine.record": ("EngineNorm", "EngineRecord"),
    "exporter.export": ("export",),
    "exporter.result": ("ExportResult", "ExportedNorm"),
    "exporter.swap": ("SwapReport", "swap"),
    "fusion.fuse": ("FusionResult", "fuse"),
    "fusion.inspect": ("Inspection", "inspect"),
    "fusion.near_miss": ("NearMiss",),
    "fusion.norm": ("Norm",),
    "fusion.unfuse": ("UnfusionResult", "unfuse"),
    "libraries": ("onnxruntime_library", "tensorrt_library"),
    "ops.forms": ("NormForm",),
    "runtime.onnxruntime_session": ("session",),
    "verification.check": ("Check", "Divergence", "Part"),
    "verification.difference": ("Difference",),
    "verification.pairs": ("ValuePair",),
    "verification.result": ("Verification",),
    "verification.verify": ("verify",),
}
"""The module of each name, without `rms_deploy.`"""

_HOME = {name: f"rms_deploy.{module}" for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rms-deploy")
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rms_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
