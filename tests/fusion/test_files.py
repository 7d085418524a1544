"""Files of other tools whose norms were left, in part or as a whole: each is fused now, and gives the same numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from rms_deploy.fusion.fuse import fuse
from rms_deploy.onnx_model.file import load_model
from rms_deploy.onnx_model.inputs import resolve_inputs
from rms_deploy.runtime import onnxruntime_session as runtime

FILES = Path(__file__).parent / "files"
ONE = {"RMSNorm": 1}
THREE = {"RMSNorm": 1, "AddRMSNorm": 2}
EXPECTED = {
    "01_clip_trailing_empty_mean": ONE,
    "02_crash_sln_trailing_empty_output": ONE,
    "03_half_fused_after_MHA_no_value_info": THREE,
    "03_native_SLN_after_MHA_residual_lost": THREE,
    "04_two_equal_Reshapes": ONE,
    "05_F_normalize_gamma_h1d_sqrt_d": ONE,
    "06_native_scale_per_head_dynamo23": ONE,
    "07_native_x_f32_scale_f16_torchtune": ONE,
    "08_Clip_infinite_max": ONE,
    "08_Relu_of_mean_square": ONE,
    "08_Sub_negative_epsilon": ONE,
    "09_normed_via_reshape": ONE,
    "09_statistics_on_reshape": ONE,
    "10_averagepool_as_mean": ONE,
    "10_where_floor": ONE,
    "11_symbol_b_is_1_at_run_time": {"AddRMSNorm": 1},
}
NOT_RUN = "07_native_x_f32_scale_f16_torchtune"  # no runtime loads it


def test_each_file_is_expected():
    assert sorted(path.stem for path in FILES.glob("*.onnx")) == sorted(EXPECTED)


@pytest.mark.parametrize(("name", "kinds"), EXPECTED.items(), ids=EXPECTED)
def test_all_is_fused(name, kinds):
    path = FILES / f"{name}.onnx"
    result = fuse(path)
    assert Counter(norm.kind for norm in result.norms) == kinds
    assert not result.near_misses
    fused = ir.to_proto(result.model)
    again = ir.to_proto(fuse(fused).model)
    assert again.SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)
    if name == NOT_RUN:
        return
    feeds = resolve_inputs(load_model(path))["normal"]
    expected = runtime.run(runtime.session(onnx.load(path), optimize=False, library=False), feeds)
    actual = runtime.run(runtime.session(fused), feeds)
    for key, values in expected.items():
        assert actual[key].dtype == values.dtype
        # three norms in a row, some ten roundings each; the attention between them keeps the size of its rows
        np.testing.assert_allclose(actual[key], values, rtol=1e-4, atol=1e-5)
