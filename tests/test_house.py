"""The walls of the house: who may import whom, read from the source; nothing is imported.

CONTRIBUTING.md draws the same map for people.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "errors": (),
    "output_file": (),
    "libraries": (),
    "display": (),
    "ops": (),
    "onnx_model": ("ops",),
    "fusion": ("onnx_model", "ops"),
    "runtime": ("onnx_model", "ops"),
    "nn": ("ops",),
    "models": ("nn",),
    "exporter": ("fusion.passes", "onnx_model", "ops", "nn", "models"),
    "verification": ("runtime", "onnx_model", "ops"),
    "conversion": ("fusion", "verification", "runtime", "onnx_model", "ops"),
    "benchmark": ("fusion", "runtime", "onnx_model", "ops"),
    "benchmark.worker.torch_module": ("exporter", "ops"),
    "engine": ("benchmark.latency", "benchmark.turns", "benchmark.timing", "fusion", "runtime", "onnx_model", "ops"),
    "deployment": ("engine", "benchmark", "verification", "fusion", "runtime", "onnx_model", "ops"),
    "deployment.triton_model": ("",),  # runs in a server, and knows the public names only
    "cli": ("",),
}
"""What each package may import besides itself and what `EVERYONE` may. `a.b` stands for that part of a package only."""

EVERYONE = ("errors", "output_file", "libraries", "display")

HEAVY = {
    "torch": (
        *("nn", "models", "exporter"),
        *("ops.torch_check", "ops.torch_cuda", "ops.torch_eager", "ops.torch_kernels", "ops.torch_ops"),
        *("benchmark.worker.torch_module", "benchmark.op.other_kernels", "runtime.cuda_device"),
    ),
    "onnxscript": ("exporter",),
    "transformers": ("exporter.cached_decoder", "exporter.hugging_face"),
    "onnxruntime": ("runtime.onnxruntime_session", "conversion.converter"),
    "tensorrt": ("runtime.tensorrt_api",),
    "tensorrt_rtx": ("runtime.tensorrt_api",),
    "ray": ("deployment.cluster",),
    "openvino": ("benchmark.op.other_kernels",),
    "tritonclient": ("runtime.endpoint_session",),
    "triton_python_backend_utils": ("deployment.triton_model",),
}
"""Where each heavy dependency is imported, and nowhere else."""


@cache
def modules() -> dict[str, Path]:
    """Every module by its name behind `rms_deploy.`, as it is installed: cli/ and models/ inside the package."""
    folders = {"": ROOT / "rms_deploy", "cli.": ROOT / "cli", "models.": ROOT / "models"}
    found = {}
    for prefix, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if not prefix and parts[0] in ("cli", "models"):  # links of somebody's own
                continue
            name = prefix + ".".join(part for part in parts if part != "__init__")
            found[name.rstrip(".")] = path
    return found


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Each module that a file imports, at its top or in a function, and the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and _called(node) == "import_module" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), node.lineno


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of ours that a file imports, without `rms_deploy.`; "" is the package itself."""
    for name, line in imported(path):
        if name.split(".")[0] == "rms_deploy":
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in modules():  # what follows is a name in the module
                parts.pop()
            yield ".".join(parts), line


def within(name: str, part: str) -> bool:
    """Whether `name` is the package or module `part`, or lies in it; everything lies in ""."""
    return not part or name == part or name.startswith(f"{part}.")


def rule_of(name: str) -> str:
    """The longest entry of `MAY_IMPORT` that `name` lies in."""
    return max((part for part in MAY_IMPORT if within(name, part)), key=len, default="")


INNER = [name for name in modules() if name not in ("", "__main__", "models")]
"""`rms_deploy/__init__.py` hands names on, `__main__.py` starts the command line."""


@pytest.mark.parametrize("name", INNER)
def test_a_module_imports_what_its_package_may(name):
    rule = rule_of(name)
    assert rule, f"{name}: a package that the rule does not know; add it to MAY_IMPORT and to CONTRIBUTING.md"
    allowed = (rule.split(".")[0], *MAY_IMPORT[rule], *EVERYONE)
    wrong = [
        f"{modules()[name].relative_to(ROOT)}:{line} imports rms_deploy.{target}"
        for target, line in own_imports(modules()[name])
        if not any(within(target, part) for part in allowed) or (within(target, "cli") and rule != "cli")
    ]
    assert not wrong, f"{rule} may import {', '.join(allowed)}"


@pytest.mark.parametrize("dependency", HEAVY)
def test_a_heavy_dependency_is_imported_where_the_rule_says(dependency):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for name, path in modules().items()
        if not any(within(name, part) for part in HEAVY[dependency])
        for target, line in imported(path)
        if target.split(".")[0] == dependency
    ]
    assert not wrong


def test_the_library_names_arguments_and_not_flags():
    """Who calls it from Python has none; cli/arguments.py makes flags of the arguments."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for name, path in modules().items()
        if not within(name, "cli") and not within(name, "benchmark.report")  # whose styles have names like these
        for node in texts(path)
        if re.search(r"(^|[\s`(])--[a-z][a-z-]*($|[\s`,;.)])", node.value)
    ]
    assert not wrong


def texts(path: Path) -> Iterator[ast.Constant]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node


def test_imports_are_absolute():
    for name, path in modules().items():
        relative = [node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "level", 0)]
        assert not relative, name


def test_no_modules_import_each_other_in_a_circle():
    waiting = {name: {target for target, _ in own_imports(path)} - {name} for name, path in modules().items()}
    while free := [name for name, targets in waiting.items() if not targets & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, "these modules import each other"


@pytest.mark.parametrize("folder", ["benchmarks", "tests"])
def test_what_stands_outside_imports_modules_that_exist(folder):
    """No test runs the benchmarks, and no type checker reads either."""
    files = [path for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for name, line in imported(path)
        if name.startswith("rms_deploy.")
        and name.removeprefix("rms_deploy.").rpartition(".")[0] not in modules()
        and name.removeprefix("rms_deploy.") not in modules()
    ]
    assert files
    assert not wrong


def test_no_module_bears_the_name_of_a_public_function():
    """An imported submodule would hide the function."""
    tree = ast.parse((ROOT / "rms_deploy" / "__init__.py").read_text())
    (public,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    assert not set(public) & {name for name in modules() if "." not in name} - {"errors"}


TESTED_BY = {
    "__main__": "cli/test_main.py",
    "cli.console": "cli/test_main.py",
    "deployment.result": "deployment/test_package.py",
    "exporter.source": "exporter/test_model_source.py",
    "exporter.torch_exporters": "exporter/test_export.py",
    "fusion.grammar.float32_sum": "fusion/passes/test_fuse_float32_sum.py",
    "fusion.grammar.quantize": "fusion/passes/test_fuse_quantize.py",
    "fusion.grammar.shift": "fusion/passes/test_fuse_shift.py",
    "fusion.passes.fuse_part": "fusion/test_fuse.py",
    "models.convnet": "models/test_images.py",
    "models.vit": "models/test_images.py",
    **dict.fromkeys(
        (
            *(
                "onnx_model.content_check",
                "onnx_model.graph_check",
                "onnx_model.graph_order",
                "onnx_model.ir_check",
                "onnx_model.malformed",
            ),
            *("onnx_model.node_rules", "onnx_model.opening", "onnx_model.scope", "onnx_model.sparse"),
            *("onnx_model.tensor_check", "onnx_model.type_check"),
        ),
        "onnx_model/test_check.py",
    ),
    "onnx_model.tensor_slots": "onnx_model/test_external_data.py",
    "ops.torch_eager": "ops/test_torch_kernels.py",
}
"""Modules without a test file of their name, and the file that tests each."""


def test_every_module_has_a_test_file():
    bare = {name for name, path in modules().items() if path.name != "__init__.py" and not own_tests(name).exists()}
    assert bare == set(TESTED_BY), "give it the test file of its name, or say in TESTED_BY which file tests it"
    for name, file in TESTED_BY.items():
        assert (ROOT / "tests" / file).is_file(), f"{name}: there is no tests/{file}"


def own_tests(name: str) -> Path:
    """Where the tests of a module are."""
    *folders, module = name.split(".")
    return ROOT.joinpath("tests", *folders, f"test_{module}.py")
