"""The grammar of RMSNorm: small algebraic pieces, each in one module, composed by `search`.

square(x) -> mean_square(x) -> root (epsilon, floor, inverse) -> normed(x) -> scaled, with casts between any two
"""
