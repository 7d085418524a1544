"""Which calls are told to Ray and when, and what becomes of lost ones, with a Ray that is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rms_deploy.deployment.cluster_calls import Call, CallGroup, results
from rms_deploy.errors import InputError, RunError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Ray:
    """Runs what it is told of when it is waited for, the first first. A call that raises RayError is lost."""

    def __init__(self, alive=("a", "b"), has_room=True, slow=0):
        self.has_room, self.slow = has_room, slow
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.util = SimpleNamespace(
            placement_group=self._reserve,
            scheduling_strategies=SimpleNamespace(PlacementGroupSchedulingStrategy=lambda places: places),
        )
        self.alive = alive
        self.told, self.most, self.cancelled, self.reserved = [], 0, [], []

    def _reserve(self, bundles, **options):
        self.reserved.append((bundles, options))
        return self

    def remote(self, function):
        def tell(*arguments):
            self.told.append(lambda: function(*arguments))
            self.most = max(self.most, len(self.told))
            return self.told[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=tell))

    def wait(self, pending, timeout=None, num_returns=1):  # noqa: ARG002 - Ray's signature
        """Of results, or of the room, which is another object in Ray."""
        if isinstance(pending, float):
            return self.has_room
        if self.slow:
            self.slow -= 1
            return [], []
        return (pending[:1] if self.alive else []), []

    def get(self, result):
        self.told.remove(result)
        return result()

    def cancel(self, result):
        self.cancelled.append(result)

    def nodes(self):
        return [{"NodeID": name, "Alive": True} for name in self.alive]


def double(files, *, x):
    return {"x": 2 * x, "files": dict(files)}


def fails(files, *, error):  # noqa: ARG001 - what a function is called with
    raise error


def calls(*all_calls):
    return ((index, call) for index, call in enumerate(all_calls))


def run(ray, own, nodes=None):
    return dict(results(ray, [CallGroup(ray, nodes or {"a": 1, "b": 1}, own, cpus=2, gpus=1)]))


def test_every_call_is_run_once_and_few_are_told_at_a_time():
    ray = Ray()
    found = run(ray, calls(*(Call(double, {"x": x}, {"f": "content"}) for x in range(9))))
    assert found == {x: {"x": 2 * x, "files": {"f": "content"}} for x in range(9)}
    assert ray.most == 4
    ((bundles, options),) = ray.reserved
    assert bundles == [{"CPU": 2.0, "GPU": 1.0}] * 2
    assert options["strategy"] == "STRICT_SPREAD"
    assert options["bundle_label_selector"] == [{"ray.io/node-id": "a"}, {"ray.io/node-id": "b"}]


def test_a_node_runs_so_many_at_a_time():
    ray = Ray()
    run(ray, calls(*(Call(double, {"x": x}, {}) for x in range(20))), {"a": 1, "b": 3})
    assert ray.most == 8
    assert ray.reserved[0][0] == [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 6.0, "GPU": 3.0}]


def test_a_mistake_is_a_result_and_the_others_go_on():
    found = run(Ray(), calls(Call(fails, {"error": InputError("no")}, {}), Call(double, {"x": 1}, {})))
    assert (type(found[0]), str(found[0])) == (InputError, "no")
    assert found[1]["x"] == 2


def test_a_lost_call_is_an_error_of_one_line_and_a_bug_is_raised():
    found = run(Ray(), calls(Call(fails, {"error": RayError("The node died.\nDetails.")}, {})))
    assert str(found[0]) == "its node was lost 4 times: RayError: The node died."
    with pytest.raises(RayTaskError, match="a bug"):
        run(Ray(), calls(Call(fails, {"error": RayTaskError("a bug")}, {})))


def test_no_node_is_left():
    ray = Ray(alive=())
    found = run(ray, calls(*(Call(double, {"x": x}, {}) for x in range(6))))
    assert {str(error) for error in found.values()} == {"no node is left that could run it"}
    assert all(isinstance(error, RunError) for error in found.values())
    assert (sorted(found), len(ray.cancelled)) == (list(range(6)), 4)


def test_what_still_runs_is_ended_before_the_room_is_given_back():
    ray, done = Ray(), []
    ray.util.remove_placement_group = lambda places: done.append((places, len(ray.cancelled)))
    group = CallGroup(ray, {"a": 1}, calls(*(Call(double, {"x": x}, {}) for x in range(3))), cpus=1, gpus=0)
    group.submit()
    group.close()
    assert done == [(ray, 2)]


@pytest.mark.parametrize(("has_room", "warnings"), [(False, 1), (True, 0)])
def test_it_says_once_that_it_waits_for_room(has_room, warnings, caplog):
    run(Ray(has_room=has_room, slow=3), calls(Call(double, {"x": 1}, {})))
    said = [record.message for record in caplog.records]
    assert said == ["waiting for room on 2 nodes; other Ray jobs have their CPUs or GPUs"] * warnings
