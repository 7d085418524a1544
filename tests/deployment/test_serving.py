"""A real tritonserver: the one inside nvidia-pytriton, which has the Python backend and runs without a GPU.

The backends onnxruntime and tensorrt are not in it: what is packaged for them is not served by any test.
"""

from __future__ import annotations

import os
import re
import signal
import site
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

import rms_deploy
from rms_deploy.errors import RunError

pytestmark = [pytest.mark.network, pytest.mark.slow]

DOCS = Path(__file__).parents[2] / "docs" / "deploying.md"
PROTOCOLS = ("grpc", "http")
TYPES = {
    "bool": "bool",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "float16": "float16",
    "float": "float32",
    "double": "float64",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A folder with the server, and variables with which it and its Python see what this process sees."""
    folder = tmp_path_factory.mktemp("serving")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "tritonserver")]
    done = subprocess.run([*pip, "nvidia-pytriton==0.7.0"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    # The backend finds its packages through the Python that is first on PATH, and reads no PYTHONPATH.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    first = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]  # noqa: PTH100
    code = "; ".join(f"site.addsitedir({path!r})" for path in site.getsitepackages())
    packages = folder / "env/lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "as_in_the_test.pth").write_text(f"import site, sys; sys.path[:0] = {first}; {code}")
    script = folder / "env/bin/rms-deploy"
    script.write_text(f'#!/bin/sh\nexec "{folder}/env/bin/python" -m rms_deploy "$@"\n')
    script.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables["PATH"] = os.pathsep.join([str(folder / "env/bin"), os.environ["PATH"]])
    return folder, variables


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    rms_deploy.export("llama-tiny", folder / "decomposed.onnx", norm="decomposed")
    rms_deploy.fuse(folder / "decomposed.onnx", folder / "fused.onnx")
    return folder / "fused.onnx"


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def server_of(repository, environment):
    """A server on loopback, with the models of `repository` that load; ended by its own process id."""
    folder, variables = environment
    triton = folder / "tritonserver/pytriton/tritonserver"
    stub = triton / f"python_backend_stubs/{sysconfig.get_python_version()}/triton_python_backend_stub"
    (triton / "backends/python/triton_python_backend_stub").unlink(missing_ok=True)
    (triton / "backends/python/triton_python_backend_stub").symlink_to(stub)
    http, grpc = free_ports(2)
    memory = f"rms_deploy_test_{os.getpid()}_{grpc}"
    command = [
        triton / "bin/tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={triton / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={memory}",
        *(f"--http-address=127.0.0.1 --http-port={http} --grpc-address=127.0.0.1 --grpc-port={grpc}".split()),
        *("--allow-metrics=false", "--exit-on-error=false"),
    ]
    libraries = [str(folder / "tritonserver/nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    with (folder / "server.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**variables, "LD_LIBRARY_PATH": os.pathsep.join(libraries)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            ports = {"grpc": grpc, "http": http}
            server = SimpleNamespace(process=process, url=lambda p, m: f"{p}://127.0.0.1:{ports[p]}/{m}")
            wait_for(server, log)
            yield server
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own, with the processes of the Python backend
            process.wait()
            for left in Path("/dev/shm").glob(f"{memory}*"):
                left.unlink(missing_ok=True)


def wait_for(server, log):
    """Until it answers for the decoder."""
    from rms_deploy.runtime import endpoint_session

    end = time.monotonic() + 60
    while server.process.poll() is None and time.monotonic() < end:
        with suppress(RunError):
            endpoint_session.session(server.url("grpc", "decoder"), timeout=10)
            return
        time.sleep(0.2)
    log.seek(0)
    pytest.fail(f"the decoder is not ready: {log.read()}")


@pytest.fixture(scope="module")
def repository(decoder, tmp_path_factory):
    """The decoder; a model of every type, batched; and one for a backend that the server does not have."""
    folder = tmp_path_factory.mktemp("models")
    models = folder / "models"
    rms_deploy.package(decoder, models, name="decoder", backend="python", threads=1, warmup=True)
    inputs, outputs = (", ".join(f"{name}[batch,3] {side}_{name}" for name in TYPES) for side in "xy")
    body = " ".join(f"y_{name} = Identity(x_{name})" for name in TYPES)
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), folder / "types.onnx")
    batching = {"max_batch_size": 8, "max_queue_delay": 50_000, "instances": {"cpu": 2}}
    for version in (1, 3):
        rms_deploy.package(folder / "types.onnx", models, version=version, backend="python", warmup=True, **batching)
    rms_deploy.package(decoder, models, name="other_backend", backend="onnxruntime", max_batch_size=4)
    return models


@pytest.fixture(scope="module")
def server(repository, environment):
    with server_of(repository, environment) as running:
        yield running


def typed_feeds(batch, seed):
    """Numbers of every type, zero and one among them."""
    numbers = np.random.default_rng(seed).integers(0, 100, (batch, 3))
    return {f"x_{name}": (numbers % 2 if name == "bool" else numbers).astype(TYPES[name]) for name in TYPES}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (3, 33)])
def test_the_served_decoder_answers_bit_for_bit_as_the_session_here(server, decoder, protocol, shape):
    from rms_deploy.runtime import endpoint_session

    feeds = {"input_ids": np.random.default_rng(0).integers(0, 256, shape)}
    (expected,) = rms_deploy.session(decoder, threads=1).run(None, feeds)
    served = endpoint_session.run(endpoint_session.session(server.url(protocol, "decoder")), feeds)["logits"]
    assert served.dtype == expected.dtype
    assert np.array_equal(served, expected)
    assert np.ptp(served) > 1, "a constant would prove nothing"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_verify(server, decoder, protocol):
    result = rms_deploy.verify(decoder, server.url(protocol, "decoder/1"), dims={"batch": 2, "sequence": 7})
    assert result.passed
    assert result.candidate_run == "by the server"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_type_and_requests_of_several_clients_in_one_batch(server, protocol):
    from rms_deploy.runtime import endpoint_session

    session = endpoint_session.session(server.url(protocol, "types"))
    requests = [typed_feeds(1 + seed % 3, seed) for seed in range(8)]
    answers = [None] * len(requests)

    def ask(index):
        answers[index] = endpoint_session.bound_run(session, requests[index])()

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for feeds, answer in zip(requests, answers, strict=True):
        for name in TYPES:
            assert answer[f"y_{name}"].dtype == feeds[f"x_{name}"].dtype
            assert np.array_equal(answer[f"y_{name}"], feeds[f"x_{name}"])
    counted = endpoint_session.statistics(session)
    assert counted.executions < counted.requests, "within the delay, some were batched"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_versions_are_served_and_no_other(server, protocol):
    from rms_deploy.runtime import endpoint_session

    feeds = typed_feeds(2, seed=0)
    for version in (1, 3):
        session = endpoint_session.session(server.url(protocol, f"types/{version}"))
        assert np.array_equal(endpoint_session.run(session, feeds)["y_float"], feeds["x_float"])
    with pytest.raises(RunError, match="model types 2 is not ready: version 1 is READY, version 3 is READY"):
        endpoint_session.session(server.url(protocol, "types/2"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_token_and_a_wrong_shape_are_one_line(server, protocol):
    from rms_deploy.runtime import endpoint_session

    session = endpoint_session.session(server.url(protocol, "decoder"))
    for array, message in (
        (np.full((1, 4), 999), "idx=999 must be within the inclusive range"),
        (np.zeros(4, np.int64), r"unexpected shape for input 'input_ids'"),
    ):
        with pytest.raises(RunError, match=message) as caught:
            endpoint_session.run(session, {"input_ids": array})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_name_and_a_model_that_is_not_ready_are_one_line(server, decoder, protocol):
    with pytest.raises(RunError, match="the server has no model nobody; it has decoder, other_backend, types"):
        rms_deploy.verify(decoder, server.url(protocol, "nobody"))
    message = "model other_backend is not ready: .*unable to find backend library for backend 'onnxruntime'"
    with pytest.raises(RunError, match=message) as caught:
        rms_deploy.verify(decoder, server.url(protocol, "other_backend"))
    assert "\n" not in str(caught.value)


def test_bench_and_a_wrong_name(server, decoder):
    urls = [server.url(protocol, "decoder") for protocol in PROTOCOLS]
    method = rms_deploy.Method(launches=1, rounds=2, duration=0.1, warmup=0.0, timeout=60.0)
    models = [decoder, *urls, server.url("grpc", "nobody")]
    result = rms_deploy.bench(models, method=method, concurrency=(1, 2), shapes={"input_ids": (1, 16)})
    for point in result.points:
        session, *served, missing = point.candidates
        assert session.failure is None
        assert missing.failure.startswith("the server has no model nobody")
        for candidate in served:
            assert candidate.failure is None
            assert 0 < candidate.server.compute < candidate.latency.percentiles["p99"] * 10
            assert candidate.server.queue > 0
            assert candidate.server.requests >= candidate.latency.runs


def test_a_server_that_is_killed_in_the_middle(repository, decoder, environment):
    """It and its processes end with the second round; the session goes on to the last."""
    with server_of(repository, environment) as running:

        def kill(_done, _total, what):
            if "round 2" in what:
                running.process.kill()
                running.process.wait()

        models = [decoder, *(running.url(protocol, "decoder") for protocol in PROTOCOLS)]
        method = rms_deploy.Method(launches=1, rounds=3, duration=0.1, warmup=0.0, timeout=60.0)
        result = rms_deploy.bench(models, method=method, shapes={"input_ids": (1, 16)}, on_progress=kill)
    session, *served = result.candidates
    assert len(session.latency.round_medians[0]) == 3
    for candidate in served:
        assert candidate.failure.startswith("the server is not available: ")
        assert "\n" not in candidate.failure


def test_what_the_page_says_from_the_model_to_an_answering_server(environment, tmp_path):
    """Its ports are free ones here; the server of the page ends by the block's own last line."""
    folder, variables = environment
    (block,) = re.findall(r"^```sh\n(rms-deploy export.+?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    for port, free in zip(("8000", "8001"), free_ports(2), strict=True):
        assert port in block
        block = block.replace(port, str(free))
    (tmp_path / "tritonserver").symlink_to(folder / "tritonserver")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "equal within" in done.stdout
    assert "queue" in done.stdout
