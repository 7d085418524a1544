"""A result of every public function, made up: with many layers, long names and reasons, as real models have them."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from rms_deploy.benchmark.latency import Latency, Speedup
from rms_deploy.benchmark.op.cases import OpCase
from rms_deploy.benchmark.op.result import OpBenchmarkResult, OpTiming
from rms_deploy.benchmark.report.regression import compare_runs
from rms_deploy.benchmark.server_times import ServerTimes
from rms_deploy.conversion.cast import CastResult, KeptNode
from rms_deploy.deployment.build_for_gpus import EngineSet, GpuEngine
from rms_deploy.deployment.engine_index import IndexedEngine
from rms_deploy.deployment.fuse_folder import FolderFusion
from rms_deploy.deployment.fuse_one import ModelFusion
from rms_deploy.deployment.result import PackageResult
from rms_deploy.display import Displayed
from rms_deploy.engine.doctor import Diagnosis, RuntimeDiagnosis
from rms_deploy.engine.inspect_engine import EngineInspection, EngineLayer
from rms_deploy.engine.record import EngineNorm, EngineRecord, NormTiming
from rms_deploy.exporter.result import ExportedNorm, ExportResult
from rms_deploy.fusion.fuse import FusionResult
from rms_deploy.fusion.inspect import Inspection
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.unfuse import UnfusionResult
from rms_deploy.ops.forms import NormForm
from rms_deploy.verification.check import Check
from rms_deploy.verification.difference import Difference
from rms_deploy.verification.result import Verification

from .benchmark.made_result import result as benchmark_result

LAYERS = 32


def norms(form: NormForm = NormForm.FUSED) -> tuple[Norm, ...]:
    """Two of each layer and one behind them, as a Llama has them."""
    places = [f"model.layers.{i}.{name}_layernorm" for i in range(LAYERS) for name in ("input", "post_attention")]
    return tuple(
        Norm(
            kind="AddRMSNorm",
            form=form,
            node=f"/{place}/Mul_1",
            place=place,
            dtype="bfloat16",
            axes=(-1,),
            n=4096,
            epsilon=1e-5,
            rms_epsilon=0.0,
            rms_min=0.0,
            partial_size=None,
            rounding="before scale",
            scale="bfloat16[4096]",
            note="can be fused" if form is NormForm.DECOMPOSED else "",
            max_ulp=1,
        )
        for place in (*places, "model.norm")
    )


def near_misses() -> tuple[NearMiss, ...]:
    """The same reason in every layer."""
    reason = "the statistics are in float16; `allow_precision_gain=True` fuses it, and the op takes them in float32"
    nodes = (f"/model/layers.{i}/self_attn/q_norm/ReduceMean" for i in range(LAYERS))
    return tuple(NearMiss(node, "mean of squares", reason, "") for node in nodes)


def verification(*, relative_l2: float = 3.9e-7, passed: bool = True) -> Verification:
    """Four kinds of inputs."""
    apart = Difference(1000, 1.5e-5, 22609920, 1e-9, 1.1, relative_l2, 0, 1000)
    kinds = ("normal", "outlier", "tiny", "huge")
    note = "" if passed else "differ by more than rtol 0 and atol 0 allow"
    checks = [Check(kind, "present.0.key", "float16", apart, apart, apart, apart, passed, note) for kind in kinds]
    return Verification(
        *("decoder.onnx", "decoder-fused.onnx", "as it is, unoptimised", "optimised, with our library"),
        *("the reference in float64", 3.9e-6, "4 eps(float32) sqrt(68 roundings in a row)"),
        *("both in float64, unoptimised, norms inlined", 2**-24, {"input_ids": (2, 16)}, 0),
        checks=tuple(checks),
    )


def engine_record() -> EngineRecord:
    """Both kinds of norms were timed."""
    fast, slow = (Latency.of([[[time]]] * 20) for time in (1000.0, 1200.0))
    return EngineRecord(
        *("decoder.engine", 2**30, 61.0, "tensorrt", "11.0", (), (), {}, {}, "plugin", "faster here"),
        timings=(
            NormTiming(("AddRMSNorm 4096 bfloat16",), (), fast, slow, Speedup.of(slow, fast), cuda_graph=True),
            NormTiming((), ("AddRMSNorm 4096 bfloat16",), slow, fast, Speedup.of(fast, slow), cuda_graph=True),
        ),
        norms=(EngineNorm("a", "RMSNorm", "a"), EngineNorm("b", "AddRMSNorm", None)),
        unfused_count=3,
        layers={"a": "PLUGIN_V3"},
        plugin=None,
        model={},
        options={},
        rms_deploy="0.1",
    )


def benchmark():
    """With a server's times, several clients, and a name of several words."""
    made = benchmark_result()
    names = ("TinyLlama-1.1B-fused.onnx without our library", "grpc://localhost:8001/decoder")
    points = [
        replace(
            point,
            part="AMD EPYC 7763 64-Core Processor",
            candidates=(
                replace(point.candidates[0], name=names[0]),
                replace(point.candidates[1], name=names[1], server=ServerTimes(100, 12345.6, 123.4, 3.5)),
                point.candidates[2],
            ),
        )
        for point in made.points
    ]
    return replace(made, points=tuple(points))


def cast(model: ir.Model) -> CastResult:
    """Some operators of every layer stay in float32."""
    reason = "a value of it is 65504 at most, beyond 16376, a quarter of the largest float16"
    kept = tuple(KeptNode(f"/model/layers.{i}/mlp/down_proj/MatMul", "MatMul", reason) for i in range(LAYERS))
    return CastResult(model, "float16", norms(), near_misses(), 1000, kept, verification(), written=True)


def every_result() -> dict[str, Displayed]:
    """By the name of the function that returns it; those that need torch are left out."""
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=8)
    timings = [
        OpTiming.of(OpCase("add-norm", "bfloat16", (1, 256, 56, 56), 1, 1), kernel, [(us, 5000.0)], None, 10**9)
        for kernel, us in (("ours", 12345.6), ("ort SkipSimplifiedLayerNormalization", 23456.7))
    ]
    gpu_engine = GpuEngine(
        "RTX-PRO-6000-Blackwell",
        IndexedEngine("RTX-PRO-6000-Blackwell", "sm120", "decoder-RTX-PRO-6000-Blackwell.engine", "r.json", "a.onnx"),
        {"plugin_count": 65, "norm_count": 65, "bytes": 2**31, "seconds": 1234.5},
    )
    layer = "/model/layers.0/input_layernorm/Pow + /model/layers.0/input_layernorm/ReduceMean"
    runtimes = [
        RuntimeDiagnosis(name, "11.0.0.114", "l.so", registered=True, problem="") for name in ("tensorrt", "ort")
    ]
    why = "the statistics are in float16 and stay so"
    folder = ModelFusion("nested/folder/decoder_with_past.onnx", 12.3, 64, 1, (NearMiss("n", "mean", why, ""),), True)
    return {
        "export": ExportResult(model, None, tuple(ExportedNorm("RMSNorm", NormForm.FUSED, f"n{i}") for i in range(65))),
        "fuse": FusionResult(model, norms(), (), near_misses()),
        "cast": cast(model),
        "unfuse": UnfusionResult(model, norms(), near_misses()),
        "inspect": Inspection(norms(NormForm.DECOMPOSED), near_misses()),
        "fuse_folder": FolderFusion((folder, ModelFusion("b.onnx", 0.1, failure="b.onnx: is no ONNX model"))),
        "verify": verification(),
        "build": engine_record(),
        "build_for_gpus": EngineSet((gpu_engine,)),
        "inspect_engine": EngineInspection(
            *("e.engine", "tensorrt", "11", "record", "", ()), tuple(EngineLayer(layer, "PLUGIN_V3", "") for _ in "abc")
        ),
        "doctor": Diagnosis("0.1", "3.11", "Linux", (), "", tuple(runtimes), None),
        "package": PackageResult("models", "decoder", 1, "onnxruntime", ("decoder/1/model.onnx",), ("tritonserver",)),
        "bench": benchmark(),
        "read_benchmark": benchmark(),
        "sweep": benchmark(),
        "bench_op": OpBenchmarkResult(tuple(timings), 5, 0.2, benchmark_result().provenance),
        "compare_runs": compare_runs(benchmark(), benchmark()),
    }
