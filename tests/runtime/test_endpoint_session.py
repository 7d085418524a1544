"""A model of a server, over both protocols: its answers, its counts, and one line for whatever goes wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.errors import InputError, RunError
from rms_deploy.runtime import endpoint_session as endpoint

from ..made_server import Model, serving

PROTOCOLS = ("grpc", "http")
X = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


def negated(feeds):
    return {"y": -feeds["x"]}


def made(run=negated, datatype="FP32", **options):
    return Model(run, {"x": datatype}, {"y": datatype}, **options)


@pytest.fixture(params=PROTOCOLS)
def protocol(request):
    return request.param


def test_signature_and_answers(protocol):
    with serving(made(), protocol) as url:
        session = endpoint.session(url)
        assert (session.inputs, session.outputs) == ({"x": "FP32"}, {"y": "FP32"})
        for run in (lambda: endpoint.run(session, X), endpoint.bound_run(session, X)):
            (result,) = run().values()
            assert result.dtype == np.float32
            assert np.array_equal(result, -X["x"])


def test_a_version(protocol):
    model = made()
    with serving(model, protocol) as url:
        endpoint.run(endpoint.session(f"{url}/7"), X)
    assert model.versions == (["7"] if protocol == "grpc" else [])


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [(np.bool_, "BOOL"), (np.int64, "INT64"), (np.uint8, "UINT8"), (np.float16, "FP16"), (ml_dtypes.bfloat16, "BF16")],
)
def test_types(dtype, datatype):
    array = np.array([[0, 1, 1]]).astype(dtype)
    with serving(made(lambda feeds: {"y": feeds["x"]}, datatype), "grpc") as url:
        result = endpoint.run(endpoint.session(url), {"x": array})["y"]
    assert (result.dtype, result.tolist()) == (array.dtype, array.tolist())


def test_an_array_that_is_not_contiguous(protocol):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    with serving(made(), protocol) as url:
        assert np.array_equal(endpoint.run(endpoint.session(url), {"x": array})["y"], -array)


def test_each_thread_has_a_client_of_its_own(protocol, monkeypatch):
    clients = []
    original = endpoint._client
    monkeypatch.setattr(endpoint, "_client", lambda *args: clients.append(None) or original(*args))
    with serving(made(), protocol) as url:
        run = endpoint.bound_run(endpoint.session(url), X)
        results = []
        threads = [threading.Thread(target=lambda: results.extend([run()["y"], run()["y"]])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(clients) == 1 + 3
    assert len(results) == 6
    assert all(np.array_equal(result, -X["x"]) for result in results)


def test_what_triton_counts(protocol):
    with serving(made(), protocol) as url:
        session = endpoint.session(url)
        assert endpoint.statistics(session) == endpoint.ServerStatistics(0, 0, 0, 0)
        for _ in range(4):
            endpoint.run(session, X)
        assert endpoint.statistics(session) == endpoint.ServerStatistics(4, 2, queue=8000, compute=48000)


def test_a_server_that_counts_nothing(protocol):
    with serving(made(counts=False), protocol) as url:
        assert endpoint.statistics(endpoint.session(url)) is None


def refusal(url, message, error=RunError, feeds=X, **options):
    with pytest.raises(error) as caught:
        endpoint.run(endpoint.session(url, **options), feeds)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_name_and_a_model_that_is_not_ready(protocol):
    with serving(made(), protocol) as url:
        refusal(url.replace("/m", "/n"), "/n: the server has no model n; it has m, other")
    with serving(made(ready=False, reason="Internal: no library\n\nAt: x"), protocol) as url:
        refusal(url, f"{url}: model m is not ready: version 1 is UNAVAILABLE (Internal: no library)")
        refusal(f"{url}/3", "model m 3 is not ready: version 1 is UNAVAILABLE")
    with serving(made(ready=False, counts=False), protocol) as url:
        refusal(url, f"{url}: model m is not ready")


def test_inputs_that_do_not_fit(protocol):
    def fail(_):
        raise ValueError("first line\nsecond line")

    with serving(made(fail), protocol) as url:
        refusal(url, f"{url}: first line")
        refusal(url, "arrays were given for z; the model needs x", InputError, {"z": X["x"]})
        refusal(url, "input x: dtype float64 was given; the server takes FP32", InputError, {"x": np.zeros(1)})
    with serving(made(lambda _: {"z": X["x"]}), protocol) as url:
        refusal(url, "the answer holds no output y")


def test_no_server(protocol):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"{protocol}://127.0.0.1:{free.getsockname()[1]}/m"
        refusal(url, f"{url}: the server is not available: Connection refused")


def test_a_server_that_does_not_answer(protocol):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}/m"
        refusal(url, f"{url}: no answer within 0.2 s", timeout=0.2)


def test_a_run_that_takes_too_long(protocol):
    end = threading.Event()
    with serving(made(lambda feeds: end.wait(30) and negated(feeds)), protocol) as url:
        refusal(url, "no answer within 0.3 s", timeout=0.3)
        end.set()


def test_a_server_that_goes_away(protocol):
    with serving(made(), protocol) as url:
        run = endpoint.bound_run(endpoint.session(url), X)
    with pytest.raises(RunError, match=f"{url}: the server is not available: "):
        run()


def test_a_server_of_something_else():
    with serving(made(), "http") as url:
        refusal(url.replace("http", "grpc"), "the server is not available: ", timeout=5)
    with serving(made(), "grpc") as url:
        refusal(url.replace("grpc", "http"), "the server is not available: ", timeout=5)


def test_without_the_extra():
    code = (
        "import sys; sys.modules['tritonclient'] = None\n"
        "from rms_deploy.errors import MissingDependencyError\n"
        "try:\n    import rms_deploy.runtime.endpoint_session\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'tritonclient is not installed; run: pip install "tritonclient[grpc,http]>=2.73"\n'
