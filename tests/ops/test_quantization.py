"""An opset that cannot quantise to a type is named, with the one that can."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

from rms_deploy.errors import InputError
from rms_deploy.ops.contract import RMS_NORM_QUANTIZE
from rms_deploy.ops.quantization import require_quantization_opset


@pytest.mark.parametrize(("dtype", "first"), [(np.int8, 10), (ml_dtypes.float8_e4m3fn, 19)])
def test_the_first_opset(dtype, first) -> None:
    require_quantization_opset(RMS_NORM_QUANTIZE, np.dtype(dtype), first)
    expected = f"RMSNormQuantize: opset {first - 1} has no QuantizeLinear to {np.dtype(dtype)}; use opset >= {first}"
    with pytest.raises(InputError, match=re.escape(expected)):
        require_quantization_opset(RMS_NORM_QUANTIZE, np.dtype(dtype), first - 1)
