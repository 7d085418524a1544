"""Which tasks a sweep has, in which order, and when one counts as another one."""

from __future__ import annotations

import pytest

from rms_deploy.benchmark.model_files import GivenModel
from rms_deploy.deployment.sweep_plan import model_sets, sweep_tasks
from rms_deploy.errors import ModelFileError

from ..made_models import write


@pytest.fixture
def models(tmp_path):
    return [GivenModel(name, str(write(tmp_path / f"{name}.onnx", op))) for name, op in (("a", "Exp"), ("b", "Log"))]


def test_every_model_on_every_kind_at_every_size(models):
    tasks = list(sweep_tasks(model_sets(models, apart=True), ["cpu", "cpu, L4"], {"batch": (1, 2)}))
    assert [(task.part, task.kind, task.sizes["batch"]) for task in tasks] == [
        (f"{name}, {kind}", kind, size) for name in "ab" for kind in ("cpu", "cpu, L4") for size in (1, 2)
    ]


def test_models_that_are_compared_are_one_task(models):
    (task,) = sweep_tasks(model_sets(models, apart=False), [""], {})
    assert (task.part, task.sizes) == ("", {})
    assert task.model_set.targets == [("a", "0/a.onnx"), ("b", "1/b.onnx")]
    assert list(task.model_set.files) == ["0/a.onnx", "1/b.onnx"]


def test_the_key_changes_with_the_model(models):
    def key():
        (task,) = sweep_tasks(model_sets(models, apart=False), [""], {"batch": (1,)})
        return task.key

    before = key()
    assert key() == before
    write(models[1].path, "Sqrt")
    assert key() != before


def test_a_model_that_cannot_be_read_stops_no_other(models):
    missing = GivenModel("none.onnx", "none.onnx")
    first, second = model_sets([models[0], missing], apart=True)
    assert first.failure is None
    assert str(second.failure) == "none.onnx: no such file"
    for alone in ([missing], [models[0], missing]):
        with pytest.raises(ModelFileError, match=r"none\.onnx: no such file"):
            model_sets(alone, apart=False)
