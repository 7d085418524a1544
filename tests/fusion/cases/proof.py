"""That `fuse` did right by a generated model."""

from __future__ import annotations

import onnx
import onnx.printer
import onnx_ir as ir

from rms_deploy.errors import RmsDeployError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.ops import schemas
from rms_deploy.runtime import onnxruntime_session as runtime

from .generator import Generated
from .judge import deviation, evaluate, half_types

__all__ = ["fault_of", "prove"]


def prove(generated: Generated) -> None:
    """Raise AssertionError, with the model as text, unless all holds: numbers, validity, count, idempotence."""
    fault = fault_of(generated)
    assert not fault, f"{fault}; parts: {generated.parts}\n{onnx.printer.to_text(generated.model)}"


def fault_of(generated: Generated) -> str:
    """What does not hold; empty if all does."""
    model, feeds = generated.model, generated.feeds
    onnx.checker.check_model(model, full_check=True)
    try:
        result = fuse(model, verify=False)
    except RmsDeployError as error:
        return f"an error: {error}"
    fused = ir.to_proto(result.model)
    truth = evaluate(model, feeds)
    cancels = "centred" in generated.parts  # a mean is subtracted
    fault = deviation(evaluate(fused, feeds), truth, cancels=cancels)
    if fault:
        return f"wrong numbers: {fault}"
    if not half_types(model):
        kernel = list(runtime.run(runtime.session(fused, optimize=False), feeds).values())
        fault = deviation(kernel, truth, cancels=cancels)
        if fault:
            return f"wrong numbers with the library: {fault}"
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    onnx.shape_inference.infer_shapes(fused, check_type=True, strict_mode=True, data_prop=True)
    # the norm of a centred x may be a near miss, or fused where no LayerNorm could be made of it
    most = generated.norms + generated.parts.count("centred")
    if not generated.norms <= len(result.norms) <= most:
        which = "too many" if len(result.norms) > most else "too few"
        return f"{which} fused; near misses: {[miss.reason for miss in result.near_misses]}"
    left = [miss for miss in result.near_misses if miss.left == "norm"]
    if generated.norms == len(generated.parts) and left:
        return f"every part is a norm, and a near miss says {left}"
    again = fuse(fused, verify=False)
    if ir.to_proto(again.model).SerializeToString(deterministic=True) != fused.SerializeToString(deterministic=True):
        return "the second time changes something"
    return ""
