"""A Ray cluster: its nodes, and what is sent to them."""

from __future__ import annotations

import io
import logging
import re
import socket
import sys
import threading
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from rms_deploy.deployment.cluster_calls import Call, CallGroup, results
from rms_deploy.deployment.files import read_file
from rms_deploy.errors import InputError, MissingDependencyError, RmsDeployError, RunError, one_line
from rms_deploy.runtime.machine import machine, versions

__all__ = ["Cluster", "Node", "cluster"]

_PROBE_SECONDS: Final = 120.0
_CONNECT_SECONDS: Final = 10.0
_GPU_TYPE: Final = "accelerator_type:"
"""The GPU type of a node is a resource of this name in Ray."""

_log = logging.getLogger(__name__)

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Node:
    """A node that was alive when the cluster was asked."""

    id: str
    address: str
    cpus: int
    """That Ray gives away."""
    has_gpu: bool
    gpu_type: str
    """In Ray's words, such as L4; empty: the node announces none."""
    cpu: str
    """Name of the processor."""

    @property
    def kind(self) -> str:
        """Processor and GPU: on nodes of one kind a model takes the same time."""
        return f"{self.cpu}, {self.gpu_type}" if self.gpu_type else self.cpu


class Cluster:
    """The cluster that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        """Of the module `ray`, which is connected."""
        self._ray = ray

    def nodes(self, *, cpus: int = 1, gpus: int = 0) -> tuple[Node, ...]:
        """The nodes that are alive and have so many CPUs and GPUs to give, in the order of their addresses.

        One that does not answer is left out, with a warning.

        Raises:
            RunError: there is none, or one has no rms-deploy, or another version of it.
        """
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        able = [n for n in alive if n["Resources"].get("CPU", 0) >= cpus and n["Resources"].get("GPU", 0) >= gpus]
        if not able:
            needs = f"{cpus} CPU{'s' * (cpus > 1)}{f' and {gpus} GPU' if gpus else ''}"
            raise RunError(f"none of the {len(alive)} nodes has {needs} to give, which is what one call takes")
        able.sort(key=lambda node: str(node["NodeManagerAddress"]))
        probe, on = self._ray.remote(_probe), self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        answers = [
            probe.options(num_cpus=0, scheduling_strategy=on(node["NodeID"], soft=False)).remote() for node in able
        ]
        nodes = [_node(self._ray, node, answer) for node, answer in zip(able, answers, strict=True)]
        if not any(nodes):
            raise RunError(f"none of the {len(able)} nodes answers; `ray status` says what they do")
        return tuple(node for node in nodes if node is not None)

    def send(self, files: Mapping[str, Path]) -> dict[str, Any]:
        """Put files where every node can fetch them. They go when the last call that has them is done."""
        return {name: self._ray.put(read_file(path)) for name, path in files.items()}

    def run(
        self,
        calls: Mapping[tuple[Node, ...], Iterator[tuple[_Key, Call]]],
        *,
        cpus: int = 1,
        gpus: int = 0,
        alone: bool = True,
    ) -> Iterator[tuple[_Key, dict[str, Any] | RmsDeployError]]:
        """The result of each call as it ends, or why there is none.

        Args:
            calls: of each group of nodes, what they share out among themselves.
            cpus: that a call takes, of a node that has so many to give.
            gpus: that a call takes, likewise.
            alone: a node runs one call at a time, because it measures; otherwise as many as it has CPUs for.
        """
        groups = [
            CallGroup(self._ray, {n.id: 1 if alone else n.cpus // cpus for n in nodes}, own, cpus=cpus, gpus=gpus)
            for nodes, own in calls.items()
        ]
        try:
            yield from results(self._ray, groups)
        finally:
            for group in groups:
                group.close()


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or start one of this machine alone, and leave it when the block ends.

    Args:
        address: `host:port` of the cluster's head; "auto": the cluster that this machine is a node of; "local".

    Raises:
        InputError: the address is none, or this process is connected to a cluster already.
        RunError: no cluster answers there, or it is of another version of Ray or Python.
        MissingDependencyError: Ray is not installed.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingDependencyError("ray is not installed; run: pip install ray") from error
    if ray.is_initialized():
        raise InputError("this process is connected to a Ray cluster already; call ray.shutdown() first")
    options = {"include_dashboard": False} if address == "local" else {}
    if address not in ("auto", "local"):
        _check_address(address)
    with redirect_stdout(_RayMessages(sys.stdout)):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise RunError(f"Ray cluster {address}: {one_line(error)}") from error
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


class _RayMessages(io.TextIOBase):
    """Standard output. A thread of Ray prints there that a node was lost; that becomes a warning of the log."""

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout
        self._owner = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._owner:
            return int(self._stdout.write(text))
        if text.strip():
            _log.warning("Ray: %s", re.sub(r"\x1b\[\d+m", "", text).strip().splitlines()[0])
        return len(text)

    def flush(self) -> None:
        self._stdout.flush()


def _check_address(address: str) -> None:
    """Say within seconds that nothing answers: Ray itself takes minutes."""
    host, _, port = address.rpartition(":")
    if "/" in address or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"`ray` is {address!r}; use HOST:PORT of the cluster's head, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RunError(f"Ray cluster {address}: nothing answers there: {error.strerror or error}") from error


def _probe() -> tuple[str, str]:
    """On a node: its processor, and its version of rms-deploy."""
    return machine().cpu, versions().get("rms-deploy", "")


def _node(ray: Any, described: Mapping[str, Any], answer: Any) -> Node | None:
    """The node that was asked; None: it does not answer, because it died or the network did."""
    address, resources = str(described["NodeManagerAddress"]), described["Resources"]
    try:
        cpu, version = ray.get(answer, timeout=_PROBE_SECONDS)
    except ray.exceptions.RayTaskError as error:
        raise RunError(f"node {address}: does not run rms-deploy; install it on every node") from error
    except ray.exceptions.RayError as error:
        _log.warning("node %s does not answer, and gets nothing to do (%s)", address, type(error).__name__)
        return None
    here = versions().get("rms-deploy", "")
    if version != here:
        raise RunError(f"node {address}: has rms-deploy {version}, and {here} is here; install one version everywhere")
    types = [name.removeprefix(_GPU_TYPE) for name in resources if name.startswith(_GPU_TYPE)]
    return Node(
        id=described["NodeID"],
        address=address,
        cpus=int(resources["CPU"]),
        has_gpu=resources.get("GPU", 0) > 0,
        gpu_type=", ".join(sorted(types)),
        cpu=cpu,
    )
