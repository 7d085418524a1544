"""Norms as the exporters in use spell them, with their reshapes, expansions and names of constants."""

from __future__ import annotations

import numpy as np

from .case import Case

__all__ = ["EXPORTERS"]

_W = np.float32([[[1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4]]])

EXPORTERS: list[Case] = [
    Case("exporter", "torch dynamo, Llama",
         "q = Pow (x, two) m = ReduceMean <keepdims=1, noop_with_empty_axes=0> (q, last) e = Add (m, eps) r = Sqrt (e) "
         "i = Reciprocal (r) n = Mul (x, i) y = Mul (w, n)", 1),
    Case("exporter", "torch legacy, Llama",
         "p = Constant <value = float {2}> () q = Pow (x, p) m = ReduceMean <axes=[-1], keepdims=1> (q) "
         "k = Constant <value = float {1e-05}> () e = Add (m, k) r = Sqrt (e) o = Constant <value = float {1}> () "
         "i = Div (o, r) n = Mul (x, i) y = Mul (w, n)", 1, opset=17),
    Case("exporter", "torch legacy, opset 11",
         "p = Constant <value = float {2}> () q = Pow (x, p) m = ReduceMean <axes=[-1], keepdims=1> (q) "
         "k = Constant <value = float {1e-05}> () e = Add (m, k) r = Sqrt (e) n = Div (x, r) y = Mul (n, w)", 1,
         opset=11),
    Case("exporter", "torch dynamo, float16, Cast of the epsilon",
         "c = Cast <to=1> (x) p = CastLike (int_two, c) q = Pow (c, p) m = ReduceMean (q, last) "
         "k = CastLike (eps64, m) e = Add (m, k) r = Sqrt (e) i = Reciprocal (r) n = Mul (c, i) "
         "h = Cast <to=10> (n) y = Mul (w16, h)", 1,
         inputs="float16[b,s,8] x", outputs="float16[b,s,8] y", constants={"eps64": np.float64(1e-6)}),
    Case("exporter", "torch dynamo, F.normalize with its Expand",
         "l = ReduceL2 <keepdims=1> (x, last) c = Max (l, tiny) h = Shape (x) k = Expand (c, h) d = Div (x, k) "
         "j = Mul (d, root8) y = Mul (j, w)", 1),
    Case("exporter", "torch legacy, F.normalize",
         "l = ReduceL2 <axes=[-1], keepdims=1> (x) c = Clip (l, tiny) h = Shape (x) k = Expand (c, h) d = Div (x, k) "
         "j = Mul (d, root8) y = Mul (j, w)", 1, opset=17),
    Case("exporter", "jax2onnx, mean of jnp.square",
         "q = Mul (x, x) t = ReduceSum <keepdims=0> (q, last) m = Div (t, eight) h = Reshape (m, one_more) "
         "e = Add (h, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (x, i) y = Mul (n, c)", 1,
         constants={"one_more": np.int64([3, 5, 1]), "c": _W}, inputs="float[3,5,8] x", outputs="float[3,5,8] y"),
    Case("exporter", "jax2onnx, rsqrt as Div and Sqrt, expanded operands",
         "q = Pow (x, int_two) t = ReduceSum <keepdims=0> (q, last) h = Unsqueeze (t, last) m = Div (h, eight) "
         "e = Add (m, eps) r = Sqrt (e) i = Div (one, r) s1 = Shape (x) k = Expand (i, s1) n = Mul (x, k) "
         "g = Reshape (w, a) f = Expand (g, s1) y = Mul (n, f)", 1, constants={"a": np.int64([1, 1, 8])}),
    Case("exporter", "flax, scale multiplied into the inverse",
         "q = Mul (x, x) m = ReduceMean <keepdims=1> (q, last) e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) "
         "k = Mul (i, w11) y = Mul (x, k)", 1),
    Case("exporter", "Keras 3, rms_scaling",
         "q = Mul (x, x) m = ReduceMean <keepdims=1> (q, last) e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) "
         "n = Mul (x, i) g = Reshape (w, a) y = Mul (n, g)", 1, constants={"a": np.int64([1, 1, 8])}),
    Case("exporter", "Keras 3 on TensorFlow, square and Rsqrt",
         "q = Mul (x, x) m = ReduceMean <axes=[2], keepdims=1> (q) e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) "
         "n = Mul (x, i) y = Mul (n, w)", 1, opset=15),
    Case("exporter", "Keras 3.15, model.export: the mean as GlobalAveragePool",
         "q = Mul (x, x) m = GlobalAveragePool (q) e = Add (m, eps) r = Sqrt (e) i = Reciprocal (r) n = Mul (x, i) "
         "y = Mul (n, w11)", 1, opset=15),
    Case("exporter", "tf2onnx 1.17, Pow and GlobalAveragePool",
         "q = Pow (x, two) m = GlobalAveragePool (q) e = Add (m, eps) i = Pow (e, minus_half) n = Mul (x, i) "
         "y = Mul (n, w)", 1, opset=13, inputs="float[3,5,8] x", outputs="float[3,5,8] y"),
    Case("exporter", "GlobalAveragePool of an image: over both its axes",
         "q = Mul (x, x) m = GlobalAveragePool (q) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)", 1, opset=13,
         inputs="float[b,8,s,4] x", outputs="float[b,8,s,4] y"),
    Case("exporter", "GlobalAveragePool of an image, the scale along its last axis only",
         "q = Mul (x, x) m = GlobalAveragePool (q) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, w)", 1,
         opset=13, inputs="float[b,2,s,8] x", outputs="float[b,2,s,8] y"),
    Case("exporter", "GlobalAveragePool of unknown rank",
         "x = Reshape (z, g) q = Mul (x, x) m = GlobalAveragePool (q) e = Add (m, eps) r = Sqrt (e) y = Div (x, r)", 0,
         opset=13, inputs="float[t] z, int64[k] g", reason="rank of x is not known",
         feeds={"z": np.linspace(-3, 2, 120, dtype=np.float32), "g": np.int64([3, 5, 8])}),
    Case("exporter", "tf2onnx 1.17, l2_normalize times a scale that holds sqrt(n)",
         "q = Mul (x, x) t = ReduceSum <keepdims=1> (q, last) c = Max (t, tiny) r = Sqrt (c) i = Reciprocal (r) "
         "n = Mul (x, i) y = Mul (n, k)", None, opset=13, constants={"k": _W.reshape(8) * np.float32(8**0.5)}),
    Case("exporter", "jax2onnx 0.17, flax.nnx.RMSNorm",
         "o = CastLike (one, x) q = Mul (x, x) m = ReduceMean <keepdims=1> (q, last) e = Add (m, eps) r = Sqrt (e) "
         "i = Div (o, r) k = Mul (i, w11) y = Mul (x, k)", 1, opset=23),
    Case("exporter", "jax2onnx 0.17, x over jnp.linalg.norm",
         "d = LpNormalization <axis=-1, p=2> (x) k = Mul (d, root8) y = Mul (k, w11)", 1, opset=23, zero_row=False),
    Case("exporter", "tf2onnx, Mesh TensorFlow's T5",
         "q = Mul (x, x) m = ReduceMean <axes=[-1], keepdims=1> (q) e = Add (m, eps) r = Sqrt (e) "
         "i = Reciprocal (r) n = Mul (x, i) y = Mul (n, w)", 1, opset=13),
    Case("exporter", "tf2onnx, opset 11, Unsqueeze as attribute",
         "q = Mul (x, x) k = ReduceMean <axes=[2], keepdims=0> (q) m = Unsqueeze <axes=[2]> (k) e = Add (m, eps) "
         "r = Sqrt (e) i = Reciprocal (r) n = Mul (i, x) y = Mul (w, n)", 1, opset=11),
    Case("exporter", "onnxruntime-genai, first norm and skip norms",
         "a = SimplifiedLayerNormalization <axis=-1, epsilon=1e-05, stash_type=1> (x, w) f = Relu (a) "
         "y, m, i, t = com.microsoft.SkipSimplifiedLayerNormalization <epsilon=1e-05> (x, f, v)", 2,
         outputs="float[b,s,8] y, float[b,s,8] t", domains=("com.microsoft",), valid=False,
         kinds=("AddRMSNorm", "RMSNorm")),
    Case("exporter", "optimum, float16 by its converter",
         "c = Cast <to=1> (x) q = Pow (c, two) m = ReduceMean <axes=[-1]> (q) e = Add (m, eps) r = Sqrt (e) "
         "n = Div (c, r) h = Cast <to=10> (n) y = Mul (w16, h)", 1, opset=17, inputs="float16[b,s,8] x",
         outputs="float16[b,s,8] y"),
    Case("exporter", "ONNX's own function body",
         "f = Cast <to=1> (x) k = Shape (x) g = Size (k) a = Neg (i1) n0 = Reshape (a, v1) q = Mul (f, f) "
         "m = ReduceMean (q, n0) e = Add (m, eps) r = Sqrt (e) j = Reciprocal (r) n = Mul (f, j) t = CastLike (n, x) "
         "y = Mul (t, w)", 1, constants={"i1": np.int64(1), "v1": np.int64([1])}),
    Case("exporter", "Olive, MatMul of ones for the mean",
         "q = Mul (x, x) m = MatMul (q, c) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) y = Mul (n, w)", None,
         constants={"c": np.full((8, 1), 0.125, np.float32)}),
    Case("exporter", "Olive, LpNormalization and a folded scale",
         "d = LpNormalization <axis=-1, p=2> (x) y = Mul (d, k)", None, zero_row=False,
         constants={"k": _W.reshape(8) * np.float32(8**0.5)}),
]  # fmt: skip
