"""Decoders with their key-value cache: one file for prefill and decode, and torch's own tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rms_deploy import export
from rms_deploy.errors import InputError
from rms_deploy.exporter.cached_decoder import CachedDecoder, with_past
from rms_deploy.exporter.source import Source
from rms_deploy.onnx_model.inputs import resolve_inputs
from rms_deploy.runtime import onnxruntime_session as runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}
NEW_TOKENS = 12


def decoder(kind: str = "Llama", **sizes: Any) -> torch.nn.Module:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | sizes)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def generated(session: Any, prompt: np.ndarray) -> np.ndarray:
    """The prompt and the tokens of the largest logits after it; the outputs of each run are the past of the next."""
    past = {
        value.name: np.zeros([prompt.shape[0], value.shape[1], 0, value.shape[3]], np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    tokens, new = prompt, prompt
    for _ in range(NEW_TOKENS):
        positions = np.arange(tokens.shape[1] - new.shape[1], tokens.shape[1])
        feeds = {"input_ids": new, "attention_mask": np.ones_like(tokens), **past}
        outputs = runtime.run(session, {**feeds, "position_ids": np.broadcast_to(positions, new.shape).copy()})
        past = {name: outputs[name.replace("past_key_values", "present")] for name in past}
        new = outputs["logits"][:, -1:].argmax(-1)
        tokens = np.concatenate([tokens, new], axis=1)
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sizes"), [("Llama", {}), ("Mistral", {"sliding_window": 4}), ("Qwen3", {})])
def test_greedy_tokens_are_those_of_torch(kind, sizes, tmp_path) -> None:
    model = decoder(kind, **sizes)
    model.save_pretrained(tmp_path / "model")
    exported = export(tmp_path / "model", tmp_path / "m.onnx", with_past=True)
    assert exported.cached
    assert exported.count()["AddRMSNorm"] == 4
    prompt = torch.randint(1, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(prompt, **options).numpy()
    assert len(np.unique(expected[:, 7:])) > 4, "a model that repeats one token proves nothing"
    for library in (True, False):
        session = runtime.session(tmp_path / "m.onnx", library=library)
        np.testing.assert_array_equal(generated(session, prompt.numpy()), expected)


def test_names_and_sizes_are_those_of_optimum_and_are_guessed_together(tmp_path) -> None:
    decoder(num_hidden_layers=1).save_pretrained(tmp_path)
    model = export(tmp_path, with_past=True, dtype="float16").model
    dims = {value.name: [str(dim) for dim in value.shape] for value in (*model.graph.inputs, *model.graph.outputs)}
    new, total = ["batch_size", "sequence_length"], "past_sequence_length + sequence_length"
    assert dims == {
        "input_ids": new,
        "attention_mask": ["batch_size", total],
        "position_ids": new,
        "past_key_values.0.key": ["batch_size", "2", "past_sequence_length", "8"],
        "past_key_values.0.value": ["batch_size", "2", "past_sequence_length", "8"],
        "logits": [*new, "64"],
        "present.0.key": ["batch_size", "2", total, "8"],
        "present.0.value": ["batch_size", "2", total, "8"],
    }
    (feeds,) = resolve_inputs(model, dims={"sequence_length": 3, "past_sequence_length": 5}).values()
    outputs = runtime.run(runtime.session(model), feeds)
    assert outputs["logits"].shape == (2, 3, 64)
    assert outputs["present.0.key"].shape == (2, 2, 8, 8)
    assert outputs["present.0.key"].dtype == np.float16


def test_a_decoder_without_a_head_gives_its_last_hidden_state() -> None:
    import transformers

    source = Source(transformers.LlamaModel(transformers.LlamaConfig(**SIZES)), {"input_ids": torch.ones(1, 8).long()})
    assert with_past(source).output_names[0] == "last_hidden_state"


class WithoutCache(torch.nn.Module):
    def forward(self, input_ids):
        return input_ids


class WithoutPositions(torch.nn.Module):
    def forward(self, input_ids, past_key_values):
        return input_ids, past_key_values


class WithoutKeys(torch.nn.Module):
    """Puts nothing into the cache that it is given."""

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache):  # noqa: ARG002
        past_key_values.update(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4), 0)
        return (input_ids,)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (WithoutCache(), "WithoutCache: its forward takes no key-value cache; leave out `with_past=True`"),
        (WithoutPositions(), "WithoutPositions: its forward takes no position_ids; leave out `with_past=True`"),
        (WithoutKeys(), "WithoutKeys: layer 0 keeps no keys and values of each token"),
    ],
)
def test_a_module_without_a_cache_is_refused(module, message) -> None:
    with pytest.raises(InputError, match=message):
        with_past(Source(module, {"input_ids": torch.ones(1, 8).long()}))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("llama-tiny", {}, "llama-tiny: `with_past=True` is for folders of Hugging Face"),
        ("folder", {"exporter": "legacy", "norm": "decomposed"}, "the legacy exporter writes no key-value cache"),
        ("folder", {"inputs": torch.ones(1, 2)}, "`with_past=True` makes its own example inputs"),
    ],
)
def test_options_that_do_not_go_together(model, options, message, tmp_path) -> None:
    if model == "folder":
        model = tmp_path
        decoder(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        export(model, with_past=True, **options)


def test_a_layer_with_another_memory_is_one_line(tmp_path) -> None:
    decoder("Qwen3Next", num_hidden_layers=1, layer_types=["linear_attention"]).save_pretrained(tmp_path)
    with pytest.raises(InputError) as caught:
        export(tmp_path, with_past=True)
    assert "\n" not in str(caught.value)


def test_positions_and_masks_reach_the_decoder() -> None:
    module = CachedDecoder(decoder(num_hidden_layers=1))
    ids = torch.tensor([[1, 2, 3, 4]])
    past = module.past_of(ids[:, :2])
    mask = torch.tensor([[1, 1, 1, 1]])
    with torch.no_grad():
        logits, *_ = module(ids[:, 2:], mask, torch.tensor([[2, 3]]), past)
        whole = module.decoder(ids).logits[:, 2:]
        # The same sums in another order: 1 layer of at most 20 roundings, and sums over up to 48 terms
        assert (logits - whole).abs().max() <= 40 * 2.0**-23 * whole.abs().max()
        hidden = torch.tensor([[0, 1, 1, 1]])
        for given in ((mask, torch.tensor([[5, 9]])), (hidden, torch.tensor([[2, 3]]))):
            wrong, *_ = module(ids[:, 2:], *given, past)
            assert (wrong - whole).abs().max() > 1e-3 * whole.abs().max()
