"""The grammar of RMSNorm: small algebraic pieces, each in one module, composed by `search`.

square(x) -> mean_square(x) -> root (epsilon, floor, inverse) -> normed(x) -> scaled, with casts between any two
"""

from rms_deploy.fusion.grammar.match import Derivation, Refusal, Stage, label
from rms_deploy.fusion.grammar.search import Findings, graphs_of, search
from rms_deploy.onnx_model.analysis import ELEMENT_NAMES, Facts

__all__ = ["ELEMENT_NAMES", "Derivation", "Facts", "Findings", "Refusal", "Stage", "graphs_of", "label", "search"]
