"""The encoder: equal to Hugging Face's, with the same weights."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.t5 import Encoder, EncoderConfig


@pytest.mark.filterwarnings("ignore")  # transformers' own, at import
@torch.no_grad()
def test_equals_hugging_face() -> None:
    from transformers import T5Config, T5EncoderModel

    ours = Encoder(EncoderConfig(vocabulary=64, hidden=32, layers=2, heads=4, intermediate=48)).double()
    sizes = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    theirs = T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=True)).double().eval()
    names = {
        "embedding.weight": "shared.weight",
        "distance_bias.weight": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    for i in range(2):
        block = f"encoder.block.{i}.layer"
        names[f"layers.{i}.attention_norm.weight"] = f"{block}.0.layer_norm.weight"
        names[f"layers.{i}.mlp_norm.weight"] = f"{block}.1.layer_norm.weight"
        for name, short in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            names[f"layers.{i}.{name}.weight"] = f"{block}.0.SelfAttention.{short}.weight"
        for name, short in (("gate", "wi_0"), ("up", "wi_1"), ("down", "wo")):
            names[f"layers.{i}.{name}.weight"] = f"{block}.1.DenseReluDense.{short}.weight"
    missing, unexpected = theirs.load_state_dict({names[k]: v for k, v in ours.state_dict().items()}, strict=False)
    assert not unexpected
    assert set(missing) <= {"encoder.embed_tokens.weight"}  # tied to the shared one
    # 200 positions: all buckets of distances, and those beyond the farthest
    ids = torch.randint(64, (2, 200), generator=torch.Generator().manual_seed(3))
    # Their norms are float32 inside: 5 roundings in a row, of values near 1
    torch.testing.assert_close(ours(ids), theirs(input_ids=ids).last_hidden_state, rtol=1e-5, atol=1e-5)
