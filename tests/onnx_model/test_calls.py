"""The calls of local functions: their order, and how large the model is once they are inlined."""

from __future__ import annotations

import onnx.helper
import onnx_ir as ir
import pytest

from rms_deploy.onnx_model.calls import Calls


def model_of(bodies: dict[str, list[str]]) -> ir.Model:
    """A model that calls the first function; each function calls others in turn, or is one Exp."""
    functions = []
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    for name, called in bodies.items():
        values = ["a", *(f"t{i}" for i in range(len(called) - 1)), "o"]
        nodes = [
            onnx.helper.make_node(callee, [values[i]], [values[i + 1]], domain="" if callee == "Exp" else "local")
            for i, callee in enumerate(called or ["Exp"])
        ]
        functions.append(onnx.helper.make_function("local", name, ["a"], ["o"], nodes, imports))
    call = onnx.helper.make_node(next(iter(bodies)), ["x"], ["y"], domain="local")
    ends = [onnx.helper.make_tensor_value_info(name, 1, [8]) for name in "xy"]
    graph = onnx.helper.make_graph([call], "g", ends[:1], ends[1:])
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions))


def doubling(count: int) -> ir.Model:
    names = [f"F{i}" for i in range(count)]
    return model_of({name: [callee] * 2 for name, callee in zip(names, [*names[1:], "Exp"], strict=True)})


def test_a_function_comes_after_all_that_call_it():
    calls = Calls(model_of({"A": ["B", "C"], "C": ["Exp"], "B": ["C"], "Unused": ["C"]}))
    names = [function.name for function in calls.in_order()]
    assert set(names) == {"A", "B", "C", "Unused"}
    assert names.index("A") < names.index("B") < names.index("C")
    assert len(calls.of(next(f for f in calls.in_order() if f.name == "C"))) == 3


def test_a_model_without_functions_may_be_inlined(build):
    calls = Calls(ir.from_proto(build("y = Exp (x)")))
    assert calls.in_order() == []
    assert calls.may_be_inlined()


@pytest.mark.parametrize(("count", "expected"), [(10, True), (25, False)])
def test_functions_that_double_may_be_inlined_while_they_are_few(count, expected):
    calls = Calls(doubling(count))
    assert calls.may_be_inlined() is expected
    assert len(calls.in_order()) == count


def test_calls_in_calls_may_not_be_too_deep():
    names = [f"F{i}" for i in range(200)]
    chain = {name: [callee] for name, callee in zip(names, [*names[1:], "Exp"], strict=True)}
    assert not Calls(model_of(chain)).may_be_inlined()


def test_functions_that_call_themselves_are_left_out():
    calls = Calls(model_of({"A": ["B"], "B": ["A"], "C": ["Exp"]}))
    assert [function.name for function in calls.in_order()] == ["C"]
    assert not calls.may_be_inlined()
