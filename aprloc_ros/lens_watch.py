"""Whether a camera is what it is declared to be: what the images of a run have said so far.

Two explanations compete (Bayes): the declared camera is right but for what calibrations are usually off by, or it is of
another mode of the camera, and may be anything. What has not been excluded widens the covariance of a pose.
"""

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.refinement.lens_evidence import BIAS, LensEvidence, with_bias

_OFF = 2e-3          # usual error of a calibration: of the focal length, relative, and of the centre, in focal lengths
_OWN_OFF = 0.0       # of the camera that the map was built with: what it is off by is in its calibrated covariances
_ANYTHING = 0.03     # of a camera in another mode
_OTHER_MODE = 0.1    # how often a camera is declared wrongly, before any image: to believe it too soon is the worse fault
_FIRST = 0.5         # share of the first image's information that is believed: single images have heavy tails
_INDEPENDENT = 0.25  # of the others', whose neighbours have said part of it
_MEMORY = 20         # images: a camera may change its mode on the way
_OUTLIER = 21.1      # squared distance, chi-square's 99.99 % of 3: an answer that says it is wrong itself
_SURE = 0.999        # that the mode is another one: so sure must one be to publish nothing
_LEAST_INFORMATION = 1e-6
_LARGEST_EXPONENT = 700.0
_PESSIMISM = 30.0    # a doubt counts so many times in the covariance
_CURVED = 0.3        # of how far an offset moves the pose: to all sides, as the way is no straight line


@dataclass(frozen=True, eq=False)
class LensVerdict:
    """What is believed of a camera by now."""

    wrong: bool            # surely not as declared
    offsets: Tensor        # [3] of refinement.lens_evidence, that the images ask for
    second_moment: Tensor  # [3, 3] of what it may really be off by, about zero
    alone: bool = False    # the last image contradicts the others: it is its answer that is wrong

    def widened(self, covariance: Tensor, shift: Tensor) -> Tensor:
        """The covariance [6, 6] of a pose whose shift [6, 3] by the offsets is known, with what they may be off by."""
        further = shift @ self.second_moment @ shift.T
        squared = torch.diagonal(further).unflatten(0, (2, 3)).sum(1)
        return covariance + further + _CURVED ** 2 * torch.diag(squared.repeat_interleave(3))


class LensWatch:
    """Of one declared camera."""

    def __init__(self, own: bool):
        """own: whether the map was built with this camera."""
        self._usual = _OWN_OFF if own else _OFF
        self._said: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_MEMORY)   # offsets [3] and their information
        self._information, self._weighted = np.zeros((3, 3)), np.zeros(3)

    def note(self, evidence: LensEvidence, scale: float) -> LensVerdict:
        """Another image's word; scale: factor on the standard deviations that its residuals promise."""
        self._said.append((evidence.offsets.numpy(), evidence.information.numpy() / scale ** 2))
        offsets, information = (np.stack(column) for column in zip(*self._said))
        agrees = _consensus(offsets, information)
        share = np.full(len(offsets), _INDEPENDENT)
        share[np.argmax(agrees)] = _FIRST
        information = (share * agrees)[:, None, None] * information
        self._information = information.sum(0)
        self._weighted = (information @ offsets[..., None]).sum(0)[:, 0]
        return replace(self.verdict(), alone=not agrees[-1])

    def verdict(self) -> LensVerdict:
        """By what was noted so far. Along the principal axes of what was said, both explanations are three independent numbers."""
        information, axes = np.linalg.eigh(self._information)
        information = np.maximum(information, _LEAST_INFORMATION)
        said = axes.T @ self._weighted / information
        noise = 1 / information + BIAS ** 2
        logs, moments = [], []
        for spread, share in ((self._usual, 1 - _OTHER_MODE), (_ANYTHING, _OTHER_MODE)):
            total = noise + spread ** 2
            mean = spread ** 2 / total * said
            logs.append(math.log(share) - np.log(total).sum() / 2 - (said ** 2 / total).sum() / 2)
            moments.append(np.diag(spread ** 2 / total * noise) + np.outer(mean, mean))
        wrong = 1 / (1 + math.exp(min(logs[0] - logs[1], _LARGEST_EXPONENT)))
        doubt = min(1.0, _PESSIMISM * wrong)
        moment = axes @ ((1 - doubt) * moments[0] + doubt * moments[1]) @ axes.T
        return LensVerdict(wrong > _SURE, torch.from_numpy(axes @ said), torch.from_numpy(moment))


def _consensus(offsets: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Which of N images agree about one camera, [N] bool: as many as can, the declared one first.

    offsets [N, 3], information [N, 3, 3]. Wrong answers ask for cameras of their own, which no other image asks for.
    """
    candidates = np.concatenate([np.zeros((1, 3)), offsets])
    apart = candidates[:, None] - offsets
    squared = (apart[..., None, :] @ with_bias(information) @ apart[..., None])[..., 0, 0]
    return squared[np.minimum(squared, _OUTLIER).sum(1).argmin()] < _OUTLIER
