"""A sweep without a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from rms_deploy.benchmark.bench import bench
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.report import table
from rms_deploy.benchmark.report.summary import summary
from rms_deploy.benchmark.result import point_name
from rms_deploy.benchmark.result_file import from_dict
from rms_deploy.deployment import sweep as module
from rms_deploy.deployment.sweep import sweep
from rms_deploy.errors import InputError, ModelFileError

from ..made_models import decomposed_norm, write
from .here import Here, use

QUICK = Method(launches=1, rounds=6, duration=0.06, warmup=0)


@pytest.fixture
def here(monkeypatch):
    """Makes the next sweeps run on a `Here`."""
    return lambda **options: use(Here(**options), monkeypatch, module)


def names(result):
    return [(point_name(point), candidate.name) for point in result.points for candidate in point.candidates]


@pytest.mark.slow
def test_the_report_is_that_of_bench(here, tmp_path):
    cluster = here()
    models = [write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx", "Log")]
    arguments = {"method": QUICK, "library": False, "sweep": {"batch": (1, 2)}}
    there, local = sweep(models, **arguments), bench(models, **arguments)
    assert names(there) == names(local)
    assert [point.shapes for point in there.points] == [point.shapes for point in local.points]
    assert len(table.rows(there)) == len(table.rows(local)) == 4
    assert there.candidates[1].speedup is not None
    assert there.inspection == local.inspection
    assert from_dict(there.to_dict()) == there
    assert cluster.groups == [["127.0.0.2", "127.0.0.3", "127.0.0.4"]]
    assert cluster.asked == {"cpus": 1, "gpus": 0}


def test_every_row_has_its_machine(here, tmp_path):
    here()
    result = sweep(write(tmp_path / "a.onnx"), method=QUICK, library=False)
    assert result.points[0].provenance.command == result.provenance.command
    hardware = result.points[0].provenance.machine.hardware
    assert [row[table.header(result).index("machine")] for row in table.rows(result)] == [hardware]
    assert any(line.startswith(f"1 of 1 points on {hardware}; python ") for line in table.provenance(result))
    assert f'"{hardware}"' in table.as_csv(result)


@pytest.mark.slow
def test_each_model_by_itself_with_variants(here, tmp_path):
    here()
    models = [decomposed_norm(tmp_path / "a.onnx"), decomposed_norm(tmp_path / "b.onnx")]
    result = sweep(models, method=QUICK, compare=("decomposed", "fused"), sweep={"batch": (1, 2, 3)})
    assert names(result) == [
        (f"{model}, batch {size}", variant)
        for model in models
        for size in (1, 2, 3)
        for variant in ("decomposed", "fused")
    ]
    told = [line for line in summary(result) if "busy" not in line]
    assert len(told) == 4, "the first and the last point of each model"
    assert told[2].startswith(f"At {models[1]}, batch 1, ")


def test_once_on_each_kind_of_node(here, tmp_path):
    cluster = here()
    result = sweep(write(tmp_path / "a.onnx"), method=QUICK, library=False, per_machine=True, sweep={"batch": (1, 2)})
    assert cluster.groups == [["127.0.0.2"], ["127.0.0.3", "127.0.0.4"]]
    assert [point_name(point) for point in result.points] == [
        f"{kind}, batch {size}" for kind in ("a processor", "a processor, L4") for size in (1, 2)
    ]


def test_a_lost_point_is_measured_again_and_a_finished_one_is_not(here, tmp_path):
    arguments = {"method": QUICK, "library": False, "sweep": {"batch": (1, 2, 3)}, "resume": tmp_path / "points"}
    path = write(tmp_path / "a.onnx")
    first = here(dies=2)
    broken = sweep(path, **arguments)
    assert broken.failed
    assert [point.candidates[0].failure for point in broken.points] == ["no node is left that could run it", None, None]
    assert [call["sizes"]["batch"] for call in first.calls] == [3, 2, 1]
    second, seen = here(), []
    whole = sweep(path, **arguments, on_progress=lambda *step: seen.append(step))
    assert [call["sizes"]["batch"] for call in second.calls] == [1]
    assert not whole.failed
    assert whole.points[1:] == broken.points[1:]
    assert seen == [(3, 3, f"{path}, batch 1")]
    write(path, "Log")
    third = here()
    sweep(path, **arguments)
    assert len(third.calls) == 3, "the model has changed"


def test_points_of_another_method_are_not_mixed(here, tmp_path):
    here()
    path = write(tmp_path / "a.onnx")
    sweep(path, method=QUICK, library=False, resume=tmp_path / "points")
    for changed in ({"method": Method(rounds=7)}, {"inputs": {"x": np.ones((1, 8), np.float32)}}):
        with pytest.raises(InputError, match="give another name"):
            sweep(path, **{"method": QUICK, "library": False, "resume": tmp_path / "points"} | changed)


def test_a_broken_model_stops_no_other(here, tmp_path):
    here()
    good, bad = decomposed_norm(tmp_path / "a.onnx"), tmp_path / "b.onnx"
    bad.write_bytes(b"no model")
    result = sweep([good, bad], method=QUICK, compare=("fused",), resume=tmp_path / "points")
    assert [candidate.failure for candidate in result.candidates] == [None]
    assert "is not an ONNX model" in result.points[1].candidates[0].failure
    assert [line.partition(" FAILED: ")[0] for line in table.failures(result) if "FAILED" in line] == [
        f"{bad} at {bad}"
    ]
    with pytest.raises(ModelFileError, match="is not an ONNX model"):
        sweep(bad, method=QUICK)


def test_a_mistake_is_a_failure_of_its_point(here, tmp_path):
    here()
    result = sweep(write(tmp_path / "a.onnx"), method=QUICK, sweep={"seq": (1,)}, resume=tmp_path / "points")
    assert result.candidates[0].failure == "the model has no dynamic dimension 'seq'; it has batch"
    assert len((tmp_path / "points").read_text().splitlines()) == 1, "it would fail again for ever"


def test_what_runs_on_a_gpu_takes_one(here, tmp_path):
    cluster = here()
    sweep(
        write(tmp_path / "a.onnx"),
        method=Method(threads=2, concurrency=3, launches=1, rounds=1),
        runtimes=("onnxruntime-cuda",),
    )
    assert cluster.asked == {"cpus": 6, "gpus": 1}


def test_the_inputs_travel(here, tmp_path):
    here()
    np.savez(tmp_path / "x.npz", x=np.ones((5, 8), np.float32))
    path = write(tmp_path / "a.onnx")
    for inputs in (tmp_path / "x.npz", {"x": np.ones((5, 8), np.float32)}):
        assert sweep(path, method=QUICK, library=False, inputs=inputs).shapes == {"x": (5, 8)}
    with pytest.raises(InputError, match=r"none\.npz: cannot be read: No such file"):
        sweep(path, inputs=tmp_path / "none.npz")
    with pytest.raises(InputError, match="no model to measure"):
        sweep([])
