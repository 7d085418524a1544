"""A language model of GRU layers with norms inside the recurrence; seeded random weights.

    z, r = norm(W x) + norm(U h) + b           h' = (1 - sigmoid(z)) h + sigmoid(z) tanh(c)
    c = norm(V x) + sigmoid(r) * norm(Q h) + d

Norms: four in a layer; the two of x are taken of all steps at once, the two of h in each step. This is where the paper
finds RMSNorm to gain most. Exported by the dynamo exporter, the recurrence is one ONNX Scan, for any length of the
sequence; `unrolled`, each step is in the graph, for the length of the example.

Source: Ba et al., Layer Normalization, 2016, supplement, equations 20 to 22; in Zhang and Sennrich, 2019, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan  # torch has no public name for it yet; its exporter writes it as Scan

from rms_deploy.errors import InputError
from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "GRU", "GRUConfig", "gru"]


@dataclass(frozen=True)
class GRUConfig:
    """Sizes of the model; `length`: of the example sequence."""

    vocabulary: int
    hidden: int
    layers: int
    length: int
    epsilon: float = 1e-5


CONFIGS: Final = {
    "tiny": GRUConfig(vocabulary=256, hidden=48, layers=2, length=6),
    "small": GRUConfig(vocabulary=2048, hidden=256, layers=2, length=32),
    "base": GRUConfig(vocabulary=8192, hidden=1024, layers=2, length=32),
}


class GRU(nn.Module):
    """input_ids, int64 [batch, sequence] -> logits, [batch, sequence, vocabulary], in the dtype of the weights."""

    def __init__(self, config: GRUConfig, norm: str = "rmsnorm", *, unrolled: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(_Layer(config, norm, unrolled) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden, config.vocabulary)
        randomize(self, seed)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at each position."""
        x = self.embedding(input_ids).transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x).transpose(0, 1)
        return logits


class _Layer(nn.Module):
    """x: [sequence, batch, hidden] -> the state after each step, of the same shape."""

    def __init__(self, config: GRUConfig, norm: str, unrolled: bool) -> None:
        super().__init__()
        hidden = config.hidden
        self.unrolled = unrolled
        self.input_gates = nn.Linear(hidden, 2 * hidden, bias=False)
        self.input_candidate = nn.Linear(hidden, hidden, bias=False)
        self.state_gates = nn.Linear(hidden, 2 * hidden, bias=False)
        self.state_candidate = nn.Linear(hidden, hidden, bias=False)
        self.input_gates_norm, self.state_gates_norm = (make_norm(norm, 2 * hidden, config.epsilon) for _ in range(2))
        self.input_candidate_norm, self.state_candidate_norm = (
            make_norm(norm, hidden, config.epsilon) for _ in range(2)
        )
        self.gates_bias = nn.Parameter(torch.zeros(2 * hidden))
        self.candidate_bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor) -> Tensor:
        gates = self.input_gates_norm(self.input_gates(x)) + self.gates_bias
        candidate = self.input_candidate_norm(self.input_candidate(x)) + self.candidate_bias
        state = x.new_zeros(x.shape[1:])
        if not self.unrolled and torch.compiler.is_exporting():
            _, scanned = scan(self._scan_step, state, (gates, candidate))
            y: Tensor = scanned
            return y
        if not self.unrolled and torch.onnx.is_in_onnx_export():
            raise InputError(
                "GRU: the legacy exporter writes no Scan; use `exporter='dynamo'`, or the model gru-unrolled"
            )
        states = []
        for inputs in zip(gates.unbind(), candidate.unbind(), strict=True):
            state = self._step(state, *inputs)
            states.append(state)
        return torch.stack(states)

    def _scan_step(self, state: Tensor, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The state to carry on and the one to keep: a scan gives no tensor twice."""
        state = self._step(state, *inputs)
        return state, state.clone()

    def _step(self, state: Tensor, gates: Tensor, candidate: Tensor) -> Tensor:
        update, reset = torch.sigmoid(gates + self.state_gates_norm(self.state_gates(state))).chunk(2, dim=-1)
        new = torch.tanh(candidate + reset * self.state_candidate_norm(self.state_candidate(state)))
        return state + update * (new - state)


def gru(size: str = "tiny", norm: str = "rmsnorm", *, unrolled: bool = False, seed: int = 0) -> Example:
    """2 layers of width 48, 256 or 1024 (the width of the paper's translation model is 1000)."""
    config = CONFIGS[size]
    input_ids = torch.randint(config.vocabulary, (2, config.length), generator=torch.Generator().manual_seed(seed))
    dynamic = {"input_ids": {0: "batch"} if unrolled else {0: "batch", 1: "sequence"}}
    return Example(GRU(config, norm, unrolled=unrolled, seed=seed), (input_ids,), dynamic, ("logits",))
