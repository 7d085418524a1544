"""The recurrent model: its step by hand, causal, and without norms equal to torch's GRU."""

from __future__ import annotations

import pytest
import torch

from rms_deploy.models.gru import gru

IDS = torch.randint(256, (2, 7), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("norm", ["rmsnorm", "prmsnorm:0.25", "layernorm", "none"])
@torch.no_grad()
def test_formula(norm) -> None:
    model = gru(norm=norm).module.double()
    x = model.embedding(IDS)
    for layer in model.layers:
        h, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            zr = layer.input_gates_norm(x[:, t] @ layer.input_gates.weight.T)
            zr = zr + layer.state_gates_norm(h @ layer.state_gates.weight.T) + layer.gates_bias
            z, r = torch.sigmoid(zr[:, :48]), torch.sigmoid(zr[:, 48:])
            c = layer.input_candidate_norm(x[:, t] @ layer.input_candidate.weight.T) + layer.candidate_bias
            c = torch.tanh(c + r * layer.state_candidate_norm(h @ layer.state_candidate.weight.T))
            h = (1 - z) * h + z * c
            states.append(h)
        x = torch.stack(states, dim=1)
    torch.testing.assert_close(model(IDS), model.head(x))


@torch.no_grad()
def test_without_norms_it_is_torchs_gru() -> None:
    ours = gru(norm="none").module.double()
    theirs = torch.nn.GRU(48, 48, num_layers=2, batch_first=True).double()
    for i, layer in enumerate(ours.layers):
        # Theirs keeps the old state by its second gate, where ours takes the new one by its first.
        for name, part, sign in (("ih", "input", -1), ("hh", "state", -1)):
            update, reset = getattr(layer, f"{part}_gates").weight.chunk(2)
            matrices = (reset, sign * update, getattr(layer, f"{part}_candidate").weight)
            getattr(theirs, f"weight_{name}_l{i}").copy_(torch.cat(matrices))
        update, reset = layer.gates_bias.chunk(2)
        getattr(theirs, f"bias_ih_l{i}").copy_(torch.cat((reset, -update, layer.candidate_bias)))
        getattr(theirs, f"bias_hh_l{i}").zero_()
    torch.testing.assert_close(ours(IDS), ours.head(theirs(ours.embedding(IDS))[0]))


@torch.no_grad()
def test_unrolled_is_the_same_model() -> None:
    ids = IDS[:, :6]
    torch.testing.assert_close(gru().module(ids), gru(unrolled=True).module(ids), rtol=0, atol=0)
