"""A cluster without a cluster: calls run in this process, one after another. test_cluster.py has real nodes."""

from __future__ import annotations

from contextlib import nullcontext

from rms_deploy.deployment.cluster import Node
from rms_deploy.deployment.files import read_file
from rms_deploy.errors import RmsDeployError, RunError

NODES = (
    Node("1", "127.0.0.2", cpus=1, has_gpu=False, gpu_type="", cpu="a processor"),
    Node("2", "127.0.0.3", cpus=1, has_gpu=True, gpu_type="L4", cpu="a processor"),
    Node("3", "127.0.0.4", cpus=1, has_gpu=True, gpu_type="L4", cpu="a processor"),
)


class Here:
    """Nodes that are all this machine. After `dies` calls none is left."""

    def __init__(self, nodes=NODES, dies=99):
        self.asked = {}
        self.groups = []
        self.calls = []
        self._nodes = nodes
        self._dies = dies

    def nodes(self, **needs):
        self.asked = needs
        return self._nodes

    def send(self, files):
        return {name: read_file(path) for name, path in files.items()}

    def run(self, calls, **needs):
        self.asked = needs
        self.groups += [[node.address for node in nodes] for nodes in calls]
        for own in calls.values():
            for key, call in reversed(list(own)):
                self.calls.append(call.arguments)
                yield key, self._result(call)

    def _result(self, call):
        if len(self.calls) > self._dies:
            return RunError("no node is left that could run it")
        try:
            return call.function(call.files, **call.arguments)
        except RmsDeployError as error:
            return error


def use(cluster, monkeypatch, module):
    """Make `module` connect to `cluster`."""
    monkeypatch.setattr(module, "cluster", lambda _: nullcontext(cluster))
    return cluster
