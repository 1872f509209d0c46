"""The linear step that most of some matches agree on: robust least squares whose kernel narrows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from aprloc_ros.refinement.levenberg import is_solvable


@dataclass(frozen=True, eq=False)
class Consensus:
    """Of N matches and P parameters."""

    step: np.ndarray      # [P]
    hessian: np.ndarray   # [P, P] of half the weighted sum of squares
    variance: float       # of a number of a match, by those that agree


def consensus(left: np.ndarray, J: np.ndarray, counted: np.ndarray, sigmas: Sequence[float]) -> Consensus | None:
    """Of residuals [N, 2] with slopes J [N, 2, P], those that are counted [N] bool, by Geman and McClure's kernel of each of the
    sigmas in turn. None where they do not fix the step."""
    residuals, slopes = left.ravel(), J.reshape(2 * len(left), -1)
    step = np.zeros(slopes.shape[1])
    for sigma in sigmas:
        squared = ((residuals + slopes @ step) ** 2).reshape(-1, 2).sum(1)
        weight = counted / (1 + squared / sigma ** 2) ** 2
        weighted = np.repeat(weight, 2) * slopes.T
        H = weighted @ slopes
        if not is_solvable(torch.from_numpy(H)):
            return None
        step = -np.linalg.solve(H, weighted @ residuals)
    return Consensus(step, H, (weight * squared).sum() / (2 * weight.sum()))
