"""A small server of the Open Inference Protocol, over gRPC and HTTP, for tests that need no real one.

tests/deployment/test_serving.py has the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc", reason="the extra serving is not installed")
from tritonclient.grpc import service_pb2 as pb2  # noqa: E402 - after the check
from tritonclient.grpc import service_pb2_grpc  # noqa: E402
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype  # noqa: E402

Arrays = dict[str, np.ndarray]


@dataclass
class Model:
    """What the server runs under the name `m`, and how it behaves."""

    run: Callable[[Arrays], Arrays]
    inputs: dict[str, str]
    outputs: dict[str, str]
    ready: bool = True
    reason: str = ""
    counts: bool = True
    """Whether the server is Triton, with its extensions."""
    requests: int = 0
    versions: list[str] = field(default_factory=list)
    """That were asked for."""

    def metadata(self) -> dict[str, Any]:
        sides = (("inputs", self.inputs), ("outputs", self.outputs))
        tensors = {s: [{"name": n, "datatype": t, "shape": [-1]} for n, t in named.items()] for s, named in sides}
        return {"name": "m", "platform": "made", **tensors}

    def index(self) -> list[dict[str, str]]:
        state = {"state": "READY"} if self.ready else {"state": "UNAVAILABLE", "reason": self.reason}
        return [{"name": "m", "version": "1", **state}, {"name": "other", "version": "1", "state": "READY"}]

    def statistics(self) -> dict[str, Any]:
        """Each request waits for 2 us, and runs for 3 + 4 + 5; two of them run together."""
        count = {"count": self.requests}
        times = {"queue": 2000, "compute_input": 3000, "compute_infer": 4000, "compute_output": 5000}
        parts = {part: {**count, "ns": ns * self.requests} for part, ns in times.items()}
        return {
            "name": "m",
            "version": "1",
            "execution_count": self.requests // 2,
            "inference_stats": {"success": count, **parts},
        }

    def answer(self, feeds: Arrays) -> Arrays:
        self.requests += 1
        return self.run(feeds)


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, model: Model) -> None:
        self.model = model

    def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        self.model.versions.append(request.version)
        return pb2.ModelReadyResponse(ready=self.model.ready and request.name == "m")

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        return pb2.ModelMetadataResponse(**self.model.metadata())

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        if not self.model.counts:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        return pb2.RepositoryIndexResponse(models=self.model.index())

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802
        if not self.model.counts:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        return pb2.ModelStatisticsResponse(model_stats=[self.model.statistics()])

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        feeds = {}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            feeds[tensor.name] = np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(tensor.shape)
        try:
            results = self.model.answer(feeds)
        except ValueError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))
        response = pb2.ModelInferResponse(model_name="m")
        for name, array in results.items():
            response.outputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, code: int, content: Any = None) -> None:
            body = b"" if content is None else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/v2/health/live":
                self.reply(200)
            elif self.path.endswith("/ready"):
                self.reply(200 if model.ready and "/models/m/" in self.path else 400)
            elif self.path.endswith("/stats"):
                self.reply(200, {"model_stats": [model.statistics()]}) if model.counts else self.reply(404)
            else:
                self.reply(200, model.metadata())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))  # an empty one may have none
            if self.path == "/v2/repository/index":
                self.reply(200, model.index()) if model.counts else self.reply(404)
                return
            size = int(self.headers["Inference-Header-Content-Length"])
            request, raw, feeds = json.loads(body[:size]), body[size:], {}
            for tensor in request["inputs"]:
                length = tensor["parameters"]["binary_data_size"]
                values = np.frombuffer(raw[:length], triton_to_np_dtype(tensor["datatype"]))
                feeds[tensor["name"]], raw = values.reshape(tensor["shape"]), raw[length:]
            try:
                results = model.answer(feeds)
            except ValueError as error:
                self.reply(500, {"error": str(error)})
                return
            outputs = [
                {"name": n, "datatype": np_to_triton_dtype(a.dtype), "shape": a.shape, "data": a.ravel().tolist()}
                for n, a in results.items()
            ]
            self.reply(200, {"model_name": "m", "outputs": outputs})

    return Handler


@contextmanager
def serving(model: Model, protocol: str) -> Iterator[str]:
    """The endpoint of the model, as long as the block runs."""
    if protocol == "grpc":
        server = grpc.server(ThreadPoolExecutor(8))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(model), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}/m"
        finally:
            server.stop(None).wait()
        return
    web = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    web.daemon_threads = True
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/m"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
