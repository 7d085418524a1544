"""A session that has a server run the model: Triton Inference Server, or another of the Open Inference Protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rms_deploy.errors import InputError, MissingDependencyError, RunError
from rms_deploy.runtime.endpoint import Endpoint

try:
    import tritonclient.grpc as grpc_client
    import tritonclient.http as http_client
    from tritonclient.utils import InferenceServerException, np_to_triton_dtype
except (ImportError, RuntimeError) as error:  # RuntimeError: it is installed without one of its two protocols
    raise MissingDependencyError(
        'tritonclient is not installed; run: pip install "tritonclient[grpc,http]>=2.73"'
    ) from error

__all__ = ["EndpointSession", "ServerStatistics", "bound_run", "run", "session", "statistics"]

_TIMEOUT: Final = 60.0

_ERRORS: Final = (InferenceServerException, OSError, HTTPException)
"""What a call raises; the last two are of the HTTP client's connection."""

_NO_STATISTICS: Final = ("UNIMPLEMENTED", "404", "405", "501")
"""What servers answer that do not have Triton's extension of the protocol."""


@dataclass(frozen=True)
class EndpointSession:
    """A model of a server. Only one thread at a time may use it; `bound_run` gives a function for many."""

    endpoint: Endpoint
    timeout: float
    """Seconds that a call waits for its answer."""
    client: Any
    inputs: Mapping[str, str]
    """The protocol's name of the type of each input, such as FP32."""
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class ServerStatistics:
    """What Triton has counted for a model since it was loaded."""

    requests: int
    """That it has answered."""
    executions: int
    """Runs of the model; fewer than the requests, where it batched some."""
    queue: int
    """Nanoseconds that all requests together waited to run."""
    compute: int
    """Nanoseconds that they ran, with the copies of inputs and outputs."""


def session(endpoint: str | Endpoint, *, timeout: float = _TIMEOUT) -> EndpointSession:
    """Ask a server for a model's signature.

    Args:
        endpoint: grpc://host:port/model, or http://.
        timeout: seconds that this call and each run waits for an answer of the server.

    Raises:
        InputError: `endpoint` is no such URL.
        RunError: no server answers, or it has no such model, or the model is not ready.
    """
    endpoint = Endpoint.of(endpoint) if isinstance(endpoint, str) else endpoint
    client = _client(endpoint, timeout)
    limit, as_dict = _limit(endpoint, timeout), _as_dict(endpoint)
    with _in_one_line(endpoint, timeout):
        if not client.is_server_live(**limit):
            raise RunError(f"{endpoint.url}: the server is not live")
        if not client.is_model_ready(endpoint.model, endpoint.version, **limit):
            raise RunError(f"{endpoint.url}: {_why_not_ready(endpoint, client, timeout)}")
        found = client.get_model_metadata(endpoint.model, endpoint.version, **as_dict, **limit)
    inputs, outputs = ({t["name"]: t["datatype"] for t in found.get(side, [])} for side in ("inputs", "outputs"))
    return EndpointSession(endpoint, timeout, client, inputs, outputs)


def run(running: EndpointSession, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs of one run, by name.

    Raises:
        InputError: the model has other inputs, or an array has a type that the protocol does not know.
        RunError: the server refuses the inputs, or does not answer.
    """
    return _infer(running, running.client, _request(running, feeds))


def bound_run(running: EndpointSession, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], dict[str, NDArray[Any]]]:
    """A function that has the server run on these inputs. Each thread that calls it has a connection of its own.

    Raises:
        InputError: as `run`.
        RunError: as `run`, from the function.
    """
    request = _request(running, feeds)
    own = threading.local()

    def run_bound() -> dict[str, NDArray[Any]]:
        if not hasattr(own, "client"):
            own.client = _client(running.endpoint, running.timeout)
        return _infer(running, own.client, request)

    return run_bound


def statistics(running: EndpointSession) -> ServerStatistics | None:
    """What the server has counted; None: it is not Triton, and counts nothing that can be asked for.

    Raises:
        RunError: the server does not answer.
    """
    endpoint = running.endpoint
    limit, as_dict = _limit(endpoint, running.timeout), _as_dict(endpoint)
    with _in_one_line(endpoint, running.timeout):
        try:
            found = running.client.get_inference_statistics(endpoint.model, endpoint.version, **as_dict, **limit)
        except InferenceServerException as error:
            if str(error.status()).removeprefix("StatusCode.") in _NO_STATISTICS:
                return None
            raise
    counts = found["model_stats"]  # of each version, of which one answers
    return ServerStatistics(
        requests=sum(_count(each["inference_stats"]["success"], "count") for each in counts),
        executions=sum(_count(each, "execution_count") for each in counts),
        queue=sum(_count(each["inference_stats"]["queue"], "ns") for each in counts),
        compute=sum(
            _count(each["inference_stats"][part], "ns")
            for each in counts
            for part in ("compute_input", "compute_infer", "compute_output")
        ),
    )


def _count(counted: Mapping[str, Any], name: str) -> int:
    """0 is left out over gRPC, and other numbers are text."""
    return int(counted.get(name, 0))


def _client(endpoint: Endpoint, timeout: float) -> Any:
    if endpoint.protocol == "grpc":
        return grpc_client.InferenceServerClient(endpoint.address)
    return http_client.InferenceServerClient(endpoint.address, connection_timeout=timeout, network_timeout=timeout)


def _limit(endpoint: Endpoint, timeout: float) -> dict[str, float]:
    """The time limit of a call over gRPC; the HTTP client has its own."""
    return {"client_timeout": timeout} if endpoint.protocol == "grpc" else {}


def _as_dict(endpoint: Endpoint) -> dict[str, bool]:
    """Over gRPC an answer is a message, unless one asks for what the HTTP client gives."""
    return {"as_json": True} if endpoint.protocol == "grpc" else {}


def _request(running: EndpointSession, feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
    if set(feeds) != set(running.inputs):
        given, needed = ", ".join(feeds) or "no input", ", ".join(running.inputs)
        raise InputError(f"{running.endpoint.url}: arrays were given for {given}; the model needs {needed}")
    protocol = grpc_client if running.endpoint.protocol == "grpc" else http_client
    request = []
    for name, array in feeds.items():
        datatype = np_to_triton_dtype(array.dtype)
        if datatype != running.inputs[name]:
            raise InputError(f"input {name}: dtype {array.dtype} was given; the server takes {running.inputs[name]}")
        tensor = protocol.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(np.asarray(array, order="C"))
        request.append(tensor)
    return request


def _infer(running: EndpointSession, client: Any, request: list[Any]) -> dict[str, NDArray[Any]]:
    endpoint, timeout = running.endpoint, running.timeout
    with _in_one_line(endpoint, timeout):
        answer = client.infer(endpoint.model, request, endpoint.version, **_limit(endpoint, timeout))
        results = {name: answer.as_numpy(name) for name in running.outputs}
    if missing := [name for name, array in results.items() if array is None]:
        raise RunError(f"{endpoint.url}: the answer holds no output {', '.join(missing)}")
    return results


def _why_not_ready(endpoint: Endpoint, client: Any, timeout: float) -> str:
    """What the server says of its models, where it lists them."""
    try:
        index = client.get_model_repository_index(**_as_dict(endpoint), **_limit(endpoint, timeout))
    except InferenceServerException:
        return f"model {endpoint.model} is not ready"
    models = index.get("models", []) if isinstance(index, dict) else index
    own = [model for model in models if model["name"] == endpoint.model]
    if not own:
        return f"the server has no model {endpoint.model}; it has {', '.join(m['name'] for m in models) or 'none'}"
    states = (_state(model) for model in own)
    return f"model {' '.join(filter(None, (endpoint.model, endpoint.version)))} is not ready: {', '.join(states)}"


def _state(model: Mapping[str, str]) -> str:
    version, state, reason = (model.get(key, "") for key in ("version", "state", "reason"))
    said = f"version {version} is {state or 'not loaded'}" if version else state or "it is not loaded"
    return f"{said} ({_first_line(reason)})" if reason else said


@contextmanager
def _in_one_line(endpoint: Endpoint, timeout: float) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise RunError(f"{endpoint.url}: {_reason(error, timeout)}") from error


def _reason(error: Exception, timeout: float) -> str:
    status, text = "", getattr(error, "strerror", "") or next(iter(error.args), "")
    if isinstance(error, InferenceServerException):
        status, text = str(error.status()), error.message()
    if isinstance(error, TimeoutError) or status == "StatusCode.DEADLINE_EXCEEDED":
        return f"no answer within {timeout:g} s"
    line = _first_line(str(text))
    if status and status != "StatusCode.UNAVAILABLE":
        return line
    return f"the server is not available: {line.rpartition(': ')[2].strip(' []')}"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
