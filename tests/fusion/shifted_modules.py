"""Norms with a shift, a modulation or a float32 residual stream, as models write them.

The classes of transformers are the real ones, with a projection in the place of what mixes tokens. The test suite has
no diffusers, vLLM, SGLang or mamba_ssm: what they compute is written here again, and each class names its source.
Those of diffusers gave the bits of diffusers 0.42.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MODULES", "WIDTH", "Module", "inputs_of", "made"]

WIDTH = 48
SIZES = {"b": 2, "s": 7, "t": 3}


class DiffusersNorm(nn.Module):
    """`RMSNorm` of diffusers' models/normalization.py, with and without weight and bias."""

    def __init__(self, width: int = WIDTH, eps: float = 1e-6, *, weight: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if weight else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        normed = x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + self.eps)
        if self.weight is None:
            return normed.to(x.dtype)
        if self.weight.dtype != torch.float32:
            normed = normed.to(self.weight.dtype)
        normed = normed * self.weight
        return normed if self.bias is None else normed + self.bias


class LtxBlock(nn.Module):
    """`LTXVideoTransformerBlock` (transformer_ltx.py): a table of shifts and scales, and two norms without weight."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (DiffusersNorm(weight=False) for _ in range(2))
        self.attn1, self.attn2, self.ff = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.scale_shift_table = nn.Parameter(torch.zeros(6, WIDTH))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        values = self.scale_shift_table[None, None] + temb.reshape(x.size(0), temb.size(1), 6, -1)
        shift1, scale1, gate1, shift2, scale2, gate2 = values.unbind(dim=2)
        x = x + self.attn1(self.norm1(x) * (1 + scale1) + shift1) * gate1
        x = x + self.attn2(x)
        return x + self.ff(self.norm2(x) * (1 + scale2) + shift2) * gate2


class LtxResnet(nn.Module):
    """`LTXVideoResnetBlock3d` (autoencoder_kl_ltx.py): channels first, moved to the end for the norm only."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = DiffusersNorm(eps=1e-8, weight=False)
        self.scale_shift_table = nn.Parameter(torch.zeros(4, WIDTH))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        y = self.norm1(x.movedim(1, -1)).movedim(-1, 1)
        values = temb.unflatten(1, (4, -1)) + self.scale_shift_table[None, ..., None, None, None]
        shift, scale, _, _ = values.unbind(dim=1)
        return functional.silu(y * (1 + scale) + shift)


class SanaConv(nn.Module):
    """The end of `GLUMBConv` (sana_transformer.py) and `DCUpBlock2d`'s decoder: weight and bias, channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = DiffusersNorm(eps=1e-5, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class BiasNorm(nn.Module):
    """`get_normalization("rms_norm", bias=True)` of diffusers, behind a residual: weight and bias, tokens last."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.proj = DiffusersNorm(eps=1e-5, bias=True), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        x = self.proj(x) + residual
        return self.norm(x), x


class LuminaBlock(nn.Module):
    """`Lumina2TransformerBlock` with `LuminaRMSNormZero`: a scale by sample behind the weight, and no shift."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 4 * WIDTH)
        self.norm, self.norm2, self.ffn_norm1, self.ffn_norm2 = (DiffusersNorm(eps=1e-5) for _ in range(4))
        self.attn, self.feed_forward = (nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        scale_msa, gate_msa, scale_mlp, gate_mlp = self.linear(functional.silu(temb)).chunk(4, dim=1)
        y = self.attn(self.norm(x) * (1 + scale_msa[:, None]))
        x = x + gate_msa.unsqueeze(1).tanh() * self.norm2(y)
        y = self.feed_forward(self.ffn_norm1(x) * (1 + scale_mlp.unsqueeze(1)))
        return x + gate_mlp.unsqueeze(1).tanh() * self.ffn_norm2(y)


class ZImageBlock(nn.Module):
    """`ZImageTransformerBlock`: the scales are made before they are used, 1.0 + s, of shape [b, 1, n]."""

    def __init__(self) -> None:
        super().__init__()
        self.adaln = nn.Linear(WIDTH, 4 * WIDTH)
        self.attention_norm1, self.attention_norm2, self.ffn_norm1, self.ffn_norm2 = (
            DiffusersNorm(eps=1e-5) for _ in range(4)
        )
        self.attention, self.feed_forward = (nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        scale_msa, gate_msa, scale_mlp, gate_mlp = self.adaln(temb).unsqueeze(1).chunk(4, dim=2)
        gate_msa, gate_mlp = gate_msa.tanh(), gate_mlp.tanh()
        scale_msa, scale_mlp = 1.0 + scale_msa, 1.0 + scale_mlp
        x = x + gate_msa * self.attention_norm2(self.attention(self.attention_norm1(x) * scale_msa))
        return x + gate_mlp * self.ffn_norm2(self.feed_forward(self.ffn_norm1(x) * scale_mlp))


class MochiNorms(nn.Module):
    """`MochiRMSNormZero` and `MochiModulatedRMSNorm` (transformer_mochi.py): a scale by sample, all in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(WIDTH, 2 * WIDTH), DiffusersNorm(eps=1e-5, weight=False)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        scale_msa, scale_mlp = self.linear(functional.silu(temb)).chunk(2, dim=1)
        y = (self.norm(x.to(torch.float32)) * (1 + scale_msa[:, None].to(torch.float32))).to(x.dtype)
        y = self.proj(y)
        wide = self.norm(y.to(torch.float32)) * (1 + scale_mlp.unsqueeze(1).to(torch.float32))
        return wide.to(y.dtype)


class KreaBlock(nn.Module):
    """`Krea2TransformerBlock`: a norm in float32 with 1 + weight, rounded, and then modulated, scale first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, WIDTH))
        self.weight1, self.weight2 = (nn.Parameter(torch.zeros(WIDTH)) for _ in range(2))
        self.attn, self.ff = (nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        wide = functional.rms_norm(x.float(), (WIDTH,), weight=weight.float() + 1.0, eps=1e-5)
        return wide.to(x.dtype)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        values = temb.unflatten(-1, (6, -1)) + self.scale_shift_table
        scale1, shift1, gate1, scale2, shift2, gate2 = values.unbind(-2)
        x = x + gate1 * self.attn((1.0 + scale1) * self.norm(x, self.weight1) + shift1)
        return x + gate2 * self.ff((1.0 + scale2) * self.norm(x, self.weight2) + shift2)


class AceStepLayer(nn.Module):
    """`AceStepTransformerBlock` (ace_step_transformer.py): a weight, and shift and scale by sample, type_as x."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (DiffusersNorm() for _ in range(2))
        self.attn, self.mlp = (nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, WIDTH))

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.scale_shift_table + temb).chunk(6, dim=1)
        y = self.attn((self.norm1(x) * (1 + scale1) + shift1).type_as(x))
        x = (x + y * gate1).type_as(x)
        y = self.mlp((self.norm2(x) * (1 + scale2) + shift2).type_as(x))
        return (x + y * gate2).type_as(x)


class MiniMaxH3Out(nn.Module):
    """`MiniMaxH3AdaLayerNormOut` (transformer_minimax_h3.py): packed tokens, shift and scale gathered by token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.RMSNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor, temb: Tensor, indices: Tensor) -> Tensor:
        shift, scale = self.linear(functional.silu(temb)).chunk(2, dim=-1)
        return self.norm(x) * (1.0 + scale.index_select(0, indices)) + shift.index_select(0, indices)


class Float32Modulation(nn.Module):
    """`apply_scale_shift` of diffusers' transformer_kandinsky6.py on an RMS norm: float32, and rounded once."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.modulation = DiffusersNorm(weight=False), nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        shift, scale = (part[:, None] for part in self.modulation(temb).chunk(2, dim=-1))
        return (self.norm(x.float()) * (scale.float() + 1.0) + shift.float()).to(dtype=x.dtype)


class VibeVoiceHead(nn.Module):
    """The diffusion head of VibeVoice, of transformers: one modulated norm with a weight, one without."""

    def __init__(self) -> None:
        super().__init__()
        models = import_module("transformers.models.vibevoice.modeling_vibevoice")
        config = SimpleNamespace(
            hidden_size=WIDTH, intermediate_size=2 * WIDTH, rms_norm_eps=1e-5, hidden_act="silu", mlp_bias=False
        )
        self.layer = models.VibeVoiceDiffusionHeadAdaLayerNorm(config)
        self.final = models.VibeVoiceDiffusionHeadFinalLayer(config, WIDTH)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        return self.final(self.layer(x, temb), temb)


class Blocks(nn.Module):
    """Two blocks of transformers and their last norm: mixers as projections, the residual stream in float32."""

    def __init__(self, model: str, name: str) -> None:
        super().__init__()
        models = import_module(f"transformers.models.{model}.modeling_{model}")
        config = getattr(import_module(f"transformers.models.{model}.configuration_{model}"), f"{name}Config")(
            hidden_size=WIDTH, num_heads=4, head_dim=2 * WIDTH // 4, state_size=4, n_groups=1, residual_in_fp32=True
        )
        self.blocks = nn.ModuleList(getattr(models, f"{name}Block")(config, index) for index in range(2))
        for block in self.blocks:
            block.mixer = _Mixer()
        self.norm = getattr(models, f"{name}RMSNorm")(WIDTH, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x.to(dtype=self.norm.weight.dtype))


class _Mixer(nn.Linear):
    """In the place of a mixer of tokens."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        return super().forward(x)


class MambaSsmBlock(nn.Module):
    """Two steps of `Block` of mamba_ssm (modules/block.py), without `fused_add_norm`, `residual_in_fp32` True."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(DiffusersNorm(eps=1e-5) for _ in range(2))
        self.mixers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            residual = (x + residual).to(torch.float32)
            x = mixer(norm(residual.to(dtype=norm.weight.dtype)))
        return x, residual


class MambaSsmFused(nn.Module):
    """The same with `fused_add_norm`: the kernel normalises the float32 sum, and rounds the result once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.mixer = nn.Parameter(torch.ones(WIDTH)), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = x.float() + residual
        inverse = 1 / torch.sqrt(total.square().mean(dim=-1, keepdim=True) + 1e-5)
        return self.mixer((total * inverse * self.weight.float()).to(x.dtype)), total


class VllmNorm(nn.Module):
    """`RMSNorm.forward_native` of vLLM (layers/layernorm.py) with a residual.

    With `fp32_residual`, that of SGLang: the sum is handed on as it is.
    """

    def __init__(self, *, fp32_residual: bool = False) -> None:
        super().__init__()
        self.weight, self.fp32_residual = nn.Parameter(torch.ones(WIDTH)), fp32_residual

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = x.to(torch.float32) + residual.to(torch.float32)
        normed = total * torch.rsqrt(total.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        kept = total.clone() if self.fp32_residual else total.to(x.dtype)
        return normed.to(x.dtype) * self.weight, kept


class VllmDecoder(nn.Module):
    """Two layers as vLLM writes them (llama.py): each norm takes the last output and the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(VllmNorm() for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x, residual = norm(x, residual)
            x = layer(x)
        return x + residual


class VllmGemmaNorm(nn.Module):
    """`GemmaRMSNorm.forward_static` of vLLM: in float16 the sum stays in float32, also as the next residual."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total = x.float() + residual.float() if x.dtype == torch.float16 else x + residual
        wide = total.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        return (normed * (1.0 + self.weight.float())).to(x.dtype), total


class T5Layers(nn.Module):
    """Two `T5LayerFF` of transformers, where `wo` is kept in float32: so is the residual stream behind it."""

    def __init__(self) -> None:
        super().__init__()
        models = import_module("transformers.models.t5.modeling_t5")
        config = import_module("transformers.models.t5.configuration_t5").T5Config(
            d_model=WIDTH, d_ff=2 * WIDTH, feed_forward_proj="gated-gelu"
        )
        self.layers = nn.ModuleList(models.T5LayerFF(config) for _ in range(2))
        self.norm, self.attention = models.T5LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

    def to(self, dtype: torch.dtype) -> T5Layers:  # type: ignore[override]
        super().to(dtype)
        for layer in self.layers:
            layer.DenseReluDense.wo.float()
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x)
        x = x + self.attention(self.norm(x))
        return self.layers[1](x)


@dataclass(frozen=True)
class Module:
    """A module, the shapes of its inputs (b, s and t vary), those that are always float32, and its norms as ops."""

    make: Callable[[], nn.Module]
    shapes: dict[str, tuple[str | int, ...]]
    kinds: tuple[str, ...]
    float32: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    exporters: tuple[str, ...] = ("dynamo", "legacy")
    left: str = ""
    """What stays outside, and is a near miss."""


_X: dict[str, tuple[str | int, ...]] = {"x": ("b", "s", WIDTH)}
_TWO: dict[str, tuple[str | int, ...]] = {**_X, "residual": ("b", "s", WIDTH)}
_SAMPLE: dict[str, tuple[str | int, ...]] = {**_X, "temb": ("b", WIDTH)}
_SIX: dict[str, tuple[str | int, ...]] = {**_X, "temb": ("b", 1, 6 * WIDTH)}
_NO_RMS_NORM = ("dynamo",)  # the other has no torch.nn.functional.rms_norm
_MOVES_AXES = ("dynamo",)  # the other writes movedim(-1, 1) as a Transpose that is not valid
_MAMBA = ("RMSNorm", "AddRMSNorm", "AddRMSNorm")

MODULES = {
    "LTX-Video": Module(LtxBlock, _SIX, ("RMSNormShift", "AddRMSNormShift")),
    "LTX-Video, by token": Module(LtxBlock, {**_X, "temb": ("b", "s", 6 * WIDTH)}, ("RMSNormShift", "AddRMSNormShift")),
    "LTX-Video decoder": Module(  # channels first: the modulation stands behind the Transpose
        LtxResnet,
        {"x": ("b", WIDTH, 2, "s", "t"), "temb": ("b", 4 * WIDTH, 1, 1, 1)},
        ("RMSNorm",),
        exporters=_MOVES_AXES,
    ),
    "Sana": Module(SanaConv, {"x": ("b", WIDTH, "s", "t")}, ("RMSNormShift",), exporters=_MOVES_AXES),
    "diffusers, bias": Module(BiasNorm, _TWO, ("AddRMSNormShift",)),
    "Lumina2": Module(LuminaBlock, _SAMPLE, ("RMSNorm", "RMSNorm", "AddRMSNorm", "RMSNorm")),
    "Z-Image": Module(ZImageBlock, _SAMPLE, ("RMSNorm", "RMSNorm", "AddRMSNorm", "RMSNorm")),
    "Mochi": Module(MochiNorms, _SAMPLE, ("RMSNorm", "RMSNorm")),
    "Krea 2": Module(
        KreaBlock,
        _SIX,
        ("RMSNorm", "AddRMSNorm"),
        exporters=_NO_RMS_NORM,
        left="rounded, and then scaled a second time",
    ),
    "ACE-Step": Module(
        AceStepLayer,
        {**_X, "temb": ("b", 6, WIDTH)},
        ("RMSNorm", "AddRMSNorm"),
        left="scaled by a weight, and then a second time",
    ),
    "MiniMax-H3": Module(
        MiniMaxH3Out,
        {"x": ("s", WIDTH), "temb": ("t", WIDTH), "indices": ("s",)},
        ("RMSNorm",),
        integers=("indices",),
        exporters=_NO_RMS_NORM,
        left="scaled by a weight, and then a second time, by token",
    ),
    "Kandinsky, float32": Module(Float32Modulation, _SAMPLE, ("RMSNormShift",)),
    "VibeVoice": Module(  # its first norm is scaled again, and its shift, as large as x, may be a residual
        VibeVoiceHead,
        {"x": ("s", WIDTH), "temb": ("s", WIDTH)},
        ("RMSNorm", "AddRMSNormShift"),
        exporters=_NO_RMS_NORM,
    ),
    "Mamba": Module(lambda: Blocks("mamba", "Mamba"), _X, _MAMBA),
    "Mamba2": Module(lambda: Blocks("mamba2", "Mamba2"), _X, _MAMBA),
    "FalconMamba": Module(lambda: Blocks("falcon_mamba", "FalconMamba"), _X, _MAMBA),
    "mamba_ssm": Module(MambaSsmBlock, _TWO, ("AddRMSNorm", "AddRMSNorm"), float32=("residual",)),
    "mamba_ssm, fused": Module(MambaSsmFused, _TWO, ("AddFloat32RMSNorm",), float32=("residual",)),
    "vLLM": Module(VllmNorm, _TWO, ("AddFloat32RMSNorm",)),
    "vLLM decoder": Module(VllmDecoder, _TWO, ("AddFloat32RMSNorm",) * 3),
    "vLLM, Gemma": Module(VllmGemmaNorm, _TWO, ("AddFloat32RMSNorm",), float32=("residual",)),
    "SGLang, fp32_residual": Module(
        lambda: VllmNorm(fp32_residual=True), _TWO, ("AddFloat32RMSNorm",), float32=("residual",)
    ),
    "T5": Module(T5Layers, _X, ("RMSNorm", "AddFloat32RMSNorm", "AddFloat32RMSNorm")),
}


def made(name: str, dtype: torch.dtype) -> nn.Module:
    """The module in `dtype`, with random parameters."""
    torch.manual_seed(0)
    module = MODULES[name].make().eval().requires_grad_(False)
    for parameter in module.parameters():
        width = parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 1  # a projection keeps the size of a row
        parameter.uniform_(-1 / width, 1 / width)
    return module.to(dtype)


def inputs_of(name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random inputs by name, in the order of `forward`."""
    module, generator = MODULES[name], torch.Generator().manual_seed(1)
    inputs = {}
    for key, shape in module.shapes.items():
        sizes = [SIZES.get(size, size) if isinstance(size, str) else size for size in shape]
        if key in module.integers:
            inputs[key] = torch.randint(0, SIZES["t"], sizes, generator=generator)
        else:
            inputs[key] = torch.randn(sizes, generator=generator).to(torch.float32 if key in module.float32 else dtype)
    return inputs
