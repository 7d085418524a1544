"""The grammar of RMSNorm: small algebraic pieces, each in one module, composed by `search`.

square(x) -> mean_square(x) -> root (epsilon, floor, inverse) -> normed(x) -> scaled, with casts between any two
"""

from rms_deploy.passes.grammar.derivation import Derivation, Refusal, Stage, label
from rms_deploy.passes.grammar.facts import ELEMENT_NAMES, Facts
from rms_deploy.passes.grammar.search import Findings, graphs_of, search

__all__ = ["ELEMENT_NAMES", "Derivation", "Facts", "Findings", "Refusal", "Stage", "graphs_of", "label", "search"]
