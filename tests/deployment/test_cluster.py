"""Real Ray clusters of two nodes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import onnx
import pytest

from rms_deploy.benchmark.result_file import read_benchmark
from rms_deploy.deployment.cluster import Node, cluster
from rms_deploy.deployment.engine_index import read_index
from rms_deploy.errors import InputError, RunError

from ..made_models import decomposed_norm, write

OPTIONS = [
    "--compare",
    "original",
    "--no-library",
    "--launches",
    "1",
    "--rounds",
    "2",
    "--duration",
    "1",
    "--warmup",
    "0.5",
]
SIZES = (1, 2, 3, 4, 5)
SWEEP = f"batch={','.join(map(str, SIZES))}"


def command(*arguments):
    return [sys.executable, "-m", "rms_deploy", "-q", *map(str, arguments)]


def forms(value):
    """A JSON value without its numbers and texts."""
    if isinstance(value, dict):
        return {name: forms(each) for name, each in value.items()}
    return [forms(each) for each in value[:1]] if isinstance(value, list) else type(value).__name__


@pytest.mark.slow
def test_a_sweep_survives_a_killed_node(loopback, tmp_path):
    """Every point is in the report once; only the one that the node was at has begun twice."""
    loopback.start("127.0.0.2")
    loopback.start("127.0.0.3", '--resources={"accelerator_type:L4": 1}')
    sweep = command("bench", write(tmp_path / "a.onnx"), *OPTIONS, "--json")
    sweep_there = [*sweep, "--sweep", SWEEP, "--ray", loopback.address, "--resume", str(tmp_path / "points")]
    environment = loopback.environment
    with subprocess.Popen(
        sweep_there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        end = time.monotonic() + 90
        while loopback.begun().count("127.0.0.3") < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, loopback.begun()
            time.sleep(0.05)
        loopback.kill("127.0.0.3")
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == "", "-q was asked for"
    (tmp_path / "there.json").write_text(output)
    there = read_benchmark(tmp_path / "there.json")
    assert [point.dims for point in there.points] == [{"batch": size} for size in SIZES]
    assert all(point.provenance is not None for point in there.points)
    assert len(loopback.begun()) == len(SIZES) + 1
    written = [json.loads(line) for line in (tmp_path / "points").read_text().splitlines()[1:]]
    assert sorted(line["key"]["sizes"]["batch"] for line in written) == list(SIZES)

    done = subprocess.run(sweep_there, capture_output=True, text=True, timeout=120, check=True, env=environment)
    again = done.stdout
    assert json.loads(again)["points"] == json.loads(output)["points"]
    assert len(loopback.begun()) == len(SIZES) + 1, "what is in the file was measured again"

    alone = [*sweep, "--sweep", "batch=1"]
    local = json.loads(subprocess.run(alone, capture_output=True, text=True, timeout=120, check=True).stdout)
    (here,), (point, *_) = local["points"], json.loads(output)["points"]
    assert (here.pop("provenance"), here["shapes"]) == (None, point["shapes"])
    assert forms(point.pop("provenance")) == forms(local["provenance"])
    assert forms(point) == forms(here)


SEEN = """
import json, sys
from rms_deploy.deployment.cluster import cluster
from rms_deploy.errors import RmsDeployError
def error(call):
    try:
        call()
    except RmsDeployError as error:
        return str(error)
with cluster(sys.argv[1]) as connected:
    nodes = [(node.address, node.gpu_type, node.has_gpu, node.kind) for node in connected.nodes()]
    print(json.dumps([nodes, error(lambda: connected.nodes(cpus=2)), error(lambda: cluster("local").__enter__())]))
"""


@pytest.mark.slow
def test_nodes_of_two_kinds_fuse_and_build(loopback, tmp_path):
    loopback.start("127.0.0.2", '--resources={"accelerator_type:GeForce-RTX-5090": 1}')
    loopback.start("127.0.0.3", '--resources={"accelerator_type:L4": 1}')
    seen = [sys.executable, "-c", SEEN, loopback.address]
    done = subprocess.run(seen, capture_output=True, text=True, timeout=120, env=loopback.environment, check=True)
    (first, second), too_large, twice = json.loads(done.stdout)
    assert first[:3] == ["127.0.0.2", "GeForce-RTX-5090", False]
    assert second == ["127.0.0.3", "L4", False, first[3].replace("GeForce-RTX-5090", "L4")]
    assert too_large == "none of the 2 nodes has 2 CPUs to give, which is what one call takes"
    assert twice == "this process is connected to a Ray cluster already; call ray.shutdown() first"

    (tmp_path / "zoo").mkdir()
    decomposed_norm(tmp_path / "zoo" / "a.onnx")
    fuse = command("fuse", tmp_path / "zoo", "-o", tmp_path / "fused", "--ray", loopback.address)
    subprocess.run(fuse, capture_output=True, timeout=120, env=loopback.environment, check=True)
    assert "RMSNorm" in [node.op_type for node in onnx.load(tmp_path / "fused" / "a.onnx").graph.node]

    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    model = decomposed_norm(tmp_path / "a.onnx")
    build = command("build", model, "-o", tmp_path / "out", "--ray", loopback.address, "--shape", "x=1x8")
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, env=loopback.environment, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    engines = read_index(tmp_path / "out")
    assert [(engine.gpu_type, engine.device) for engine in engines] == [("GeForce-RTX-5090", "sm120"), ("L4", "sm89")]
    for engine in engines:
        record = json.loads((tmp_path / "out" / engine.record).read_text())
        assert record["devices"] == [engine.device]
        assert record["bytes"] == (tmp_path / "out" / engine.engine).stat().st_size


@pytest.fixture
def ray():
    return pytest.importorskip("ray", reason="ray is not installed")


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("address", ["there", "there:", "there:99999", "ray://there:10001", ":1"])
def test_what_is_no_address(address):
    with pytest.raises(InputError, match="use HOST:PORT of the cluster's head, auto or local"), cluster(address):
        pass


@pytest.mark.usefixtures("ray")
def test_nothing_answers():
    with pytest.raises(RunError, match=r"Ray cluster 127\.0\.0\.1:1: nothing answers there"), cluster("127.0.0.1:1"):
        pass


def test_the_kind_of_a_node():
    assert Node("a", "127.0.0.1", cpus=1, has_gpu=False, gpu_type="", cpu="a processor").kind == "a processor"
