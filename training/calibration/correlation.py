"""How long the error of an answer lasts: what the next answers of a drive have in common with it."""

import torch
from torch import Tensor

_LONGEST_S = 10.0   # between two answers that are compared
_STEPS = 200


def correlation_time_s(whitened: Tensor, drives: list[str], seconds: Tensor) -> float:
    """tau of the correlation exp(-dt / tau) of errors dt apart, by least squares; 0 where no two are near in time.

    whitened [N, 6]: residuals L^-1 xi of covariances L L^T, whose products have a mean of that correlation; drives and
    seconds [N] when each was taken, NaN where nobody knows.
    """
    same = torch.tensor([[a == b for b in drives] for a in drives], dtype=torch.bool).reshape(len(drives), len(drives))
    apart_s = (seconds[:, None] - seconds[None]).abs()
    i, j = (same & (apart_s > 0) & (apart_s <= _LONGEST_S)).triu(1).nonzero(as_tuple=True)
    if not len(i):
        return 0.0
    product = (whitened[i] * whitened[j]).mean(1)
    shortest_s = apart_s[i, j].min().item()
    candidates = torch.logspace(-1, 2, _STEPS, dtype=torch.float64) * shortest_s
    model = torch.exp(-apart_s[i, j][None] / candidates[:, None])
    misfit = (product - model).square().sum(1)
    return candidates[misfit.argmin()].item() if misfit.min() < product.square().sum() else 0.0
