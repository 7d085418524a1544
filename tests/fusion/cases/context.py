"""The same norm in all surroundings: shared pieces, graph outputs, bodies, opsets, unknown shapes and domains."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .case import Case, norm

__all__ = ["CONTEXT"]

_OPSETS = range(11, onnx.defs.onnx_opset_version() + 1)
_OLD_MEAN = "m = ReduceMean <axes=[-1]> (q)"
_MICROSOFT = ("com.microsoft",)


def _context(name: str, text: str, norms: int | tuple[int, ...] | None = 1, **more: Any) -> Case:
    return Case("context", name, text, norms, **more)


def _outputs(*names: str) -> str:
    return ", ".join(f"float[b,s,8] {name}" for name in names)


def _renamed(suffix: str, scale: str = "w") -> str:
    return (
        f"q{suffix} = Mul (x, x) m{suffix} = ReduceMean (q{suffix}, last) e{suffix} = Add (m{suffix}, eps) "
        f"r{suffix} = Sqrt (e{suffix}) n{suffix} = Div (x, r{suffix}) y{suffix} = Mul (n{suffix}, {scale})"
    )


_SHARED = [
    _context("two norms of one x", f"{norm()} {_renamed('2', 'v')}", 2, outputs=_outputs("y", "y2")),
    _context("two scales of one normalised x", f"{norm()} y2 = Mul (n, v)", (1, 2), outputs=_outputs("y", "y2")),
    _context("two norms of one root", f"{norm()} n2 = Div (x, r) y2 = Mul (n2, v)", 2, outputs=_outputs("y", "y2")),
    _context("two norms of one mean square",
             f"{norm()} e2 = Add (m, floor) r2 = Sqrt (e2) n2 = Div (x, r2) y2 = Mul (n2, v)", 2,
             outputs=_outputs("y", "y2")),
    _context("two norms of one square",
             f"{norm()} m2 = ReduceMean (q, a) e2 = Add (m2, eps) r2 = Sqrt (e2) y2 = Div (x, r2)", 2,
             outputs=_outputs("y", "y2"), constants={"a": np.int64([2])}),
    _context("one root divides another tensor too", f"{norm()} n2 = Div (z, r) y2 = Mul (n2, v)", (0, 1),
             inputs=_outputs("x", "z"), outputs=_outputs("y", "y2")),
    _context("the norm of a norm",
             f"{norm()} q2 = Mul (y, y) m2 = ReduceMean (q2, last) e2 = Add (m2, eps) r2 = Sqrt (e2) y2 = Div (y, r2)",
             2, outputs=_outputs("y2")),
    *(
        _context(f"{name} is a graph output", norm(), (0, 1, 2), outputs=f"float[b,s,8] y, {kind} {value}")
        for name, value, kind in (
            ("the square", "q", "float[b,s,8]"),
            ("the mean square", "m", "float[b,s,1]"),
            ("the root", "r", "float[b,s,1]"),
            ("the normalised x", "n", "float[b,s,8]"),
        )
    ),
    *(
        _context(f"{name} is used elsewhere", f"{norm()} u = Neg ({value})", (0, 1, 2),
                 outputs=f"float[b,s,8] y, {kind} u")
        for name, value, kind in (
            ("the square", "q", "float[b,s,8]"),
            ("the mean square", "m", "float[b,s,1]"),
            ("the root", "r", "float[b,s,1]"),
            ("the normalised x", "n", "float[b,s,8]"),
        )
    ),
    _context("x is a graph output too", f"x = Neg (z) {norm()}", inputs="float[b,s,8] z", outputs=_outputs("y", "x")),
    _context("the norm's output is used twice", f"{norm()} a = Neg (y) u = Mul (a, y)", outputs=_outputs("u", "y")),
    _context("the scale and the epsilon of two norms are shared",
             f"{norm()} q2 = Mul (z, z) m2 = ReduceMean (q2, last) e2 = Add (m2, eps) r2 = Sqrt (e2) n2 = Div (z, r2) "
             "y2 = Mul (n2, w)", 2, inputs=_outputs("x", "z"), outputs=_outputs("y", "y2")),
]  # fmt: skip

_THEN = f"then_branch = one () => (float[b,s,8] a) {{ {norm().replace('y =', 'a =')} }}"
_ELSE = "else_branch = other () => (float[b,s,8] d) { d = Neg (x) }"
_FUNCTION = (
    '<opset_import: ["" : 18], domain: "local"> norm (a, g) => (d) { last = Constant <value_ints=[-1]> () '
    "eps = Constant <value_float=0.25> () q = Mul (a, a) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
    "n = Div (a, r) d = Mul (n, g) }"
)
_HALF_FUNCTION = (
    '<opset_import: ["" : 18], domain: "local"> norm (a, g) => (d) { last = Constant <value_ints=[-1]> () '
    "eps = Constant <value_float=0.25> () c = Cast <to=1> (a) q = Mul (c, c) m = ReduceMean (q, last) "
    "e = Add (m, eps) r = Sqrt (e) n = Div (c, r) h = CastLike (n, a) d = Mul (h, g) }"
)
_BACKWARDS = [0.4, 1.1, 0.9, -1.2, 2.1, 0.3, -0.7, 1.5]
_BODIES = [
    _context("in a branch of If", f"y = If (c) <{_THEN}, {_ELSE}>", inputs="float[b,s,8] x, bool c"),
    _context("in both branches of If",
             f"y = If (c) <{_THEN}, else_branch = other () => (float[b,s,8] d) "
             "{ f = Neg (x) q2 = Mul (f, f) m2 = ReduceMean (q2, last) e2 = Add (m2, eps) r2 = Sqrt (e2) "
             "d = Div (f, r2) }>", 2, inputs="float[b,s,8] x, bool c"),
    _context("half outside, half in a branch",
             "q = Pow (x, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) y = If (c) <then_branch = one () "
             f"=> (float[b,s,8] a) {{ n = Div (x, r) a = Mul (n, w) }}, {_ELSE}>", (0, 1),
             inputs="float[b,s,8] x, bool c"),
    _context("outside, used in a branch",
             f"{norm()} z = If (c) <then_branch = one () => (float[b,s,8] a) {{ a = Mul (y, n) }}, {_ELSE}>", (0, 1, 2),
             inputs="float[b,s,8] x, bool c", outputs="float[b,s,8] z"),
    _context("in a Loop",
             "y = Loop (trips, c, x) <body = body (int64 i, bool k, float[b,s,8] a) => (bool j, float[b,s,8] d) "
             "{ j = Identity (k) q = Pow (a, two) m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) "
             "n = Div (a, r) d = Mul (n, w) }>",
             inputs="float[b,s,8] x, bool c", constants={"trips": np.int64(3)}),
    _context("epsilon is carried by a Loop",
             "y, f = Loop (trips, c, x, eps) <body = body (int64 i, bool k, float[b,s,8] a, float g) "
             "=> (bool j, float[b,s,8] d, float h) { j = Identity (k) q = Pow (a, two) m = ReduceMean (q, last) "
             "e = Add (m, g) r = Sqrt (e) n = Div (a, r) d = Mul (n, w) h = Add (g, floor) }>", 0,
             inputs="float[b,s,8] x, bool c", constants={"trips": np.int64(3)}, reason="epsilon"),
    _context("scale is carried by a Loop",
             "y, f = Loop (trips, c, x, w) <body = body (int64 i, bool k, float[b,s,8] a, float[8] g) "
             "=> (bool j, float[b,s,8] d, float[8] h) { j = Identity (k) q = Pow (a, two) m = ReduceMean (q, last) "
             "e = Add (m, eps) r = Sqrt (e) n = Div (a, r) d = Mul (n, g) h = Neg (g) }>",
             inputs="float[b,s,8] x, bool c", constants={"trips": np.int64(3)}),
    _context("in a Scan",
             "t, y = Scan (z, x) <num_scan_inputs=1, body = body (float[s,8] a, float[s,8] d) "
             "=> (float[s,8] u, float[s,8] v2) { u = Add (a, d) q = Pow (u, two) m = ReduceMean (q, last) "
             "e = Add (m, eps) r = Sqrt (e) n = Div (u, r) v2 = Mul (n, w) }>",
             inputs="float[b,s,8] x, float[s,8] z", cancels=True),
    _context("in an If in a Loop",
             "y = Loop (trips, c, x) <body = body (int64 i, bool k, float[b,s,8] a) => (bool j, float[b,s,8] d) "
             "{ j = Identity (k) d = If (k) <then_branch = one () => (float[b,s,8] f) { q = Pow (a, two) "
             "m = ReduceMean (q, last) e = Add (m, eps) r = Sqrt (e) n = Div (a, r) f = Mul (n, w) }, "
             "else_branch = other () => (float[b,s,8] h) { h = Neg (a) }> }>",
             inputs="float[b,s,8] x, bool c", constants={"trips": np.int64(2)}),
    _context("in a local function",
             "y = local.norm (x, w)", domains=("local",),
             functions='<opset_import: ["" : 18], domain: "local"> norm (a, g) => (d) { last = Constant '
             "<value_ints=[-1]> () eps = Constant <value_float=0.25> () q = Mul (a, a) m = ReduceMean (q, last) "
             "e = Add (m, eps) r = Sqrt (e) n = Div (a, r) d = Mul (n, g) }"),
    _context("in a local function, called twice",
             "z = local.norm (x, w) f = Relu (z) y = local.norm (f, v)", (1, 2), domains=("local",),
             functions='<opset_import: ["" : 18], domain: "local"> norm (a, g) => (d) { last = Constant '
             "<value_ints=[-1]> () eps = Constant <value_float=0.25> () q = Mul (a, a) m = ReduceMean (q, last) "
             "e = Add (m, eps) r = Sqrt (e) n = Div (a, r) d = Mul (n, g) }"),
    _context("in a local function, types and sizes known by the calls alone",
             "z = local.norm (x, w16) f = Relu (z) y = local.norm (f, v16)", 1, domains=("local",),
             inputs="float16[b,s,8] x", outputs="float16[b,s,8] y", constants={"v16": np.float16(_BACKWARDS)},
             functions=_HALF_FUNCTION),
    _context("in a local function, called in two element types",
             "y = local.norm (x, w16) y2 = local.norm (z, wb)", None, domains=("local",),
             inputs="float16[b,s,8] x, bfloat16[b,s,8] z", outputs="float16[b,s,8] y, bfloat16[b,s,8] y2",
             functions=_HALF_FUNCTION),
    _context("in a local function, called with scales that fit and that do not",
             "y = local.norm (x, w) y2 = local.norm (x, g)", (1, 2), domains=("local",),
             inputs="float[b,s,8] x, float[b,1,8] g", outputs=_outputs("y", "y2"), functions=_FUNCTION),
    _context("in a local function, called in two sizes",
             "y = local.norm (x, w) y2 = local.norm (z, k)", (1, 2), domains=("local",),
             inputs="float[b,s,8] x, float[b,s,4] z", outputs="float[b,s,8] y, float[b,s,4] y2",
             constants={"k": np.float32([1.5, -0.7, 0.3, 2.1])}, functions=_FUNCTION),
    _context("in a local function, called by another",
             "y = local.layer (x, w16)", 1, domains=("local",),
             inputs="float16[b,s,8] x", outputs="float16[b,s,8] y",
             functions=f'{_HALF_FUNCTION} <opset_import: ["" : 18, "local" : 1], domain: "local"> layer (x, w) => (z) '
             "{ y = local.norm (x, w) z = Relu (y) }"),
    _context("epsilon is a parameter of a local function",
             "z = local.norm (x, eps) f = Relu (z) y = local.norm (f, floor)", None, domains=("local",),
             functions='<opset_import: ["" : 18], domain: "local"> norm (a, g) => (d) { last = Constant '
             "<value_ints=[-1]> () q = Mul (a, a) m = ReduceMean (q, last) e = Add (m, g) r = Sqrt (e) "
             "d = Div (a, r) }"),
    _context("epsilon is an attribute of a local function",
             "z = local.norm <k=0.25> (x) f = Relu (z) y = local.norm <k=0.5> (f)", None, domains=("local",),
             functions='<opset_import: ["" : 18], domain: "local"> norm <k> (a) => (d) { last = Constant '
             "<value_ints=[-1]> () g = Constant <value_float : float = @k> () q = Mul (a, a) "
             "m = ReduceMean (q, last) e = Add (m, g) r = Sqrt (e) d = Div (a, r) }"),
]  # fmt: skip

_AROUND = [
    *(_context(f"opset {opset}", norm(mean=_OLD_MEAN) if opset < 18 else norm(), opset=opset,
               onnxruntime="1.32" if opset > 24 else "1.24" if opset > 23 else "") for opset in _OPSETS),
    _context("com.microsoft before and after",
             f"x = com.microsoft.BiasGelu (z, bias) {norm(scale='k = Mul (n, w)')} y = com.microsoft.QuickGelu (k)",
             inputs="float[b,s,8] z", domains=_MICROSOFT, cancels=True),
    _context("com.microsoft between norm and residual",
             f"x = com.microsoft.QuickGelu (z) t = Add (x, z) "
             f"{norm(square='q = Mul (t, t)', inverse='n = Div (t, r)')}", inputs="float[b,s,8] z", domains=_MICROSOFT,
             cancels=True),
    _context("an unknown domain before", f"x = unknown.Thing (z) {norm()}", inputs="float[b,s,8] z",
             domains=("unknown",), runs=False),
    _context("no batch", f"{norm()}", inputs="float[s,8] x", outputs="float[s,8] y"),
    _context("a batch of zero", norm(), inputs="float[0,5,8] x", outputs="float[0,5,8] y", zero_row=False),
    _context("Identity everywhere",
             "a = Identity (x) q = Pow (a, two) b2 = Identity (q) m = ReduceMean (b2, last) c = Identity (m) "
             "e = Add (c, eps) d = Identity (e) r = Sqrt (d) f = Identity (r) n = Div (x, f) g = Identity (n) "
             "y = Mul (g, w)"),
    _context("Dropout that drops nothing", norm(inverse="k = Div (x, r) n = Dropout (k)")),
    _context("the norm is dead code", f"{norm(scale='k = Mul (n, w)')} y = Neg (x)", None),
    _context("x is constant", norm().replace("x", "c"), None, inputs="float[1] z",
             constants={"c": np.float32([[1, 2, 3, 4, 5, 6, 7, 8]])}, outputs="float[1,8] y"),
]  # fmt: skip

CONTEXT: list[Case] = [*_SHARED, *_BODIES, *_AROUND]
