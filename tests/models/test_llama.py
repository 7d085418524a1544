"""The decoder: the same weights for the same seed, causal, position-dependent, and equal to Hugging Face's."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.llama import Decoder, DecoderConfig, llama
from rms_deploy.nn import RMSNorm

IDS = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(3))


def norms(model: Decoder) -> list[RMSNorm]:
    return [module for module in model.modules() if isinstance(module, RMSNorm)]


def test_weights_follow_the_seed() -> None:
    first, again, other = (llama(seed=seed).module(IDS) for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)


def test_building_leaves_torchs_random_state() -> None:
    model = llama().module
    torch.manual_seed(5)
    torch.testing.assert_close(llama().module(IDS), model(IDS), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "qk_norm", "count"), [("tiny", False, 5), ("tiny", True, 9), ("small", False, 9)])
def test_norms_have_telling_weights(size, qk_norm, count) -> None:
    found = norms(llama(size, qk_norm=qk_norm).module)
    assert len(found) == count
    for norm in found:
        assert norm.round_before_scale
        assert 0.1 < norm.weight.std().item() < 0.6
    assert not torch.equal(found[0].weight, found[1].weight)


@pytest.mark.parametrize("norm", ["rmsnorm", "prmsnorm", "prmsnorm:0.5", "layernorm", "none"])
def test_causal_and_finite(norm) -> None:
    model = llama(norm=norm).module
    changed = IDS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 256
    with torch.no_grad():
        a, b = model(IDS), model(changed)
    assert a.shape == (2, 12, 256)
    assert bool(torch.isfinite(a).all())
    torch.testing.assert_close(a[:, :-1], b[:, :-1])
    assert not torch.allclose(a[:, -1], b[:, -1])


def test_positions_matter() -> None:
    model = llama().module
    with torch.no_grad():
        repeated = model(torch.full((1, 4), 7))
        swapped = model(IDS[:, [1, 0, 2]])
    torch.testing.assert_close(repeated[:, 0], repeated[:, 1])  # one token, however often: attention mixes equals
    assert not torch.allclose(swapped[:, 2], model(IDS[:, :3])[:, 2])


def test_head_is_tied_or_not() -> None:
    tiny, small = llama().module, llama("small").module
    assert tiny.head.weight is tiny.embedding.weight
    assert small.head.weight is not small.embedding.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_stays_near_float32(dtype) -> None:
    with torch.no_grad():
        exact = llama().module(IDS)
        logits = llama().module.to(dtype)(IDS)
    assert logits.dtype == dtype
    # 2 layers of about 10 roundings each, of values near 1: well within 40 eps of the largest logit
    assert float((logits.float() - exact).abs().max()) < 40 * torch.finfo(dtype).eps * float(exact.abs().max())


@pytest.mark.filterwarnings("ignore")  # transformers' own, at import
@pytest.mark.parametrize("qk_norm", [False, True])
def test_equals_hugging_face(qk_norm) -> None:
    import transformers

    config = DecoderConfig(
        vocabulary=64, hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, qk_norm=qk_norm, tied=False
    )
    ours = Decoder(config)
    family = "Qwen3" if qk_norm else "Llama"
    theirs = getattr(transformers, f"{family}ForCausalLM")(
        getattr(transformers, f"{family}Config")(
            vocab_size=64,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            intermediate_size=48,
            rms_norm_eps=config.epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            attention_bias=False,
            tie_word_embeddings=False,
        )
    ).eval()
    names = {
        "embedding": "model.embed_tokens",
        "layers": "model.layers",
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
        "query_norm": "q_norm",
        "key_norm": "k_norm",
        "query": "q_proj",
        "key": "k_proj",
        "value": "v_proj",
        "output": "o_proj",
        "attention": "self_attn",
        "gate": "gate_proj",
        "up": "up_proj",
        "down": "down_proj",
        "norm": "model.norm",
        "head": "lm_head",
    }
    state = {
        ".".join(names.get(part, part) for part in key.split(".")): value for key, value in ours.state_dict().items()
    }
    theirs.load_state_dict(state, strict=True)
    ids = IDS % 64
    with torch.no_grad():
        # float32 matrix products over at most 48 terms, in another order in places
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
