"""Whether a camera is what it is declared to be: what the images of a run have said so far.

Explanations compete (Bayes): the declared camera is right but for what calibrations are usually off by, or it is of
another mode of the camera, near or far, since the start or since the last image (a zoom, a focus). What has not been
excluded widens the covariance of a pose.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.refinement.lens_evidence import BIAS, LensEvidence, widened, with_bias

_OFF = 2e-3          # usual error of a calibration: of the focal length, relative, and of the centre, in focal lengths
_OWN_OFF = 0.0       # of the camera that the map was built with: what it is off by is in its calibrated covariances
_OTHER_MODES = (0.03, 0.9), (0.2, 0.1)   # what a camera in another mode is off by, and how often
_OTHER_MODE = 0.1    # how often a camera is declared wrongly, before any image: to believe it too soon is the worse fault
_CHANGED = 0.01      # how often it is in another mode than for the image before, at least
_LATELY = 5          # images: as many of them contradict the others as it is probable that a change has come
_FIRST = 0.5         # share of the first image's information that is believed: single images have heavy tails
_INDEPENDENT = 0.25  # of the others', whose neighbours have said part of it
_MEMORY = 20         # images: a camera may change its mode on the way
_OUTLIER = 21.1      # squared distance, chi-square's 99.99 % of 3: an answer that says it is wrong itself
_SURE = 0.999        # that the mode is another one: so sure must one be to publish nothing
_SETTLED = 1e-3      # or less, and from as many images as are remembered: then only more doubt than usual is looked into
_UNUSUAL = 5         # of these images have as much doubt; with 2, zooms of 0.98 are passed over in RedKitchen
_LEAST_INFORMATION = 1e-6
_LEAST_PROBABILITY = 1e-300
_PESSIMISM = 30.0    # a doubt counts so many times in the covariance


@dataclass(frozen=True, eq=False)
class LensVerdict:
    """What is believed of a camera by now."""

    probability: float     # that it is of another mode than declared
    offsets: Tensor        # [3] of refinement.lens_evidence, that the images ask for
    second_moment: Tensor  # [3, 3] of what it may really be off by, about zero
    alone: bool = False    # the last image contradicts the others: it is its answer that is wrong

    @property
    def wrong(self) -> bool:
        """Surely not as declared."""
        return self.probability > _SURE

    def widened(self, covariance: Tensor, shift: Tensor) -> Tensor:
        """The covariance [6, 6] of a pose whose shift [6, 3] by the offsets is known, with what they may be off by."""
        return widened(covariance, shift @ self.second_moment @ shift.T)


class LensWatch:
    """Of one declared camera."""

    def __init__(self, own: bool):
        """own: whether the map was built with this camera."""
        self._usual = _OWN_OFF if own else _OFF
        self._said: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=_MEMORY)   # offsets [3], information, first doubt
        self._of_all = _Word.of(np.zeros((1, 3)), np.zeros((1, 3, 3)))
        self._usual_doubt = 0.0   # of the images by which the camera became known to be as declared; 0 where it is not
        self._calm = False        # the last image was looked at and gave no cause to

    @property
    def usual_doubt(self) -> float:
        """Of an image, up to which it needs no closer look; no two in a row go without, or a change would not be seen."""
        return self._usual_doubt if self._calm else 0.0

    def note(self, evidence: LensEvidence, scale: float) -> LensVerdict:
        """Another image's word, if it is one; scale: factor on the standard deviations that its residuals promise."""
        self._calm = False
        if not evidence.is_usable:
            return self.verdict()
        self._said.append((evidence.offsets.numpy(), evidence.information.numpy() / scale ** 2, evidence.first_doubt))
        offsets, information, doubts = (np.stack(column) for column in zip(*self._said))
        agrees = _consensus(offsets, information)
        share = np.full(len(offsets), _INDEPENDENT)
        share[np.argmax(agrees)] = _FIRST
        self._of_all = _Word.of(offsets, (share * agrees)[:, None, None] * information)
        verdict = self.verdict()
        likely = np.clip(1 - agrees[-_LATELY:].mean(), _CHANGED, 1 - _CHANGED)
        changed = _Word.of(offsets[-1:], _FIRST * information[-1:]).belief(self._usual, likely)
        settled = len(self._said) == _MEMORY and verdict.probability < _SETTLED
        self._usual_doubt = (self._usual_doubt or np.sort(doubts)[-_UNUSUAL].item()) if settled else 0.0
        self._calm = changed.probability < _CHANGED
        return replace(verdict, second_moment=verdict.second_moment + torch.from_numpy(changed.other), alone=not agrees[-1])

    def verdict(self) -> LensVerdict:
        """By what was noted so far."""
        belief = self._of_all.belief(self._usual, _OTHER_MODE)
        return LensVerdict(belief.probability, torch.from_numpy(self._of_all.axes @ self._of_all.offsets),
                           torch.from_numpy(belief.declared + belief.other))


@dataclass(frozen=True)
class _Belief:
    """In another mode, and what that adds to the second moment [3, 3] of the offsets beside what the declared one leaves."""

    probability: float
    declared: np.ndarray
    other: np.ndarray


@dataclass(frozen=True, eq=False)
class _Word:
    """What images say of a camera's offsets together: along the axes of their information three independent numbers."""

    axes: np.ndarray       # [3, 3], in columns
    offsets: np.ndarray    # [3] along them
    variance: np.ndarray   # [3] of these: noise and bias

    @classmethod
    def of(cls, offsets: np.ndarray, information: np.ndarray) -> '_Word':
        """Of N images: [N, 3] and [N, 3, 3]."""
        total, axes = np.linalg.eigh(information.sum(0))
        total = np.maximum(total, _LEAST_INFORMATION)
        weighted = (information @ offsets[..., None]).sum(0)[:, 0]
        return cls(axes, axes.T @ weighted / total, 1 / total + BIAS ** 2)

    def belief(self, usual: float, other_mode: float) -> _Belief:
        """usual: error of a calibration; other_mode: how often it is one of another mode."""
        spreads, shares = np.array([(usual, 1 - other_mode), *((spread, other_mode * share) for spread, share in _OTHER_MODES)]).T
        total = self.variance + spreads[:, None] ** 2   # [K, 3], by explanation
        likely = np.log(shares) - (np.log(total) + self.offsets ** 2 / total).sum(1) / 2
        weights = np.exp(likely - likely.max())
        weights /= weights.sum()
        probability = weights[1:].sum().item()
        doubted = min(1.0, _PESSIMISM * probability)
        mean = spreads[:, None] ** 2 / total * self.offsets
        moments = mean[:, :, None] * mean[:, None] + (spreads[:, None] ** 2 / total * self.variance)[:, None] * np.eye(3)
        declared, *others = self.axes @ moments @ self.axes.T
        other = doubted / max(probability, _LEAST_PROBABILITY) * sum(w * moment for w, moment in zip(weights[1:], others, strict=True))
        return _Belief(probability, (1 - doubted) * declared, other)


def _consensus(offsets: np.ndarray, information: np.ndarray) -> np.ndarray:
    """Which of N images agree about one camera, [N] bool: as many as can, the declared one first.

    offsets [N, 3], information [N, 3, 3]. Wrong answers ask for cameras of their own, which no other image asks for.
    """
    candidates = np.concatenate([np.zeros((1, 3)), offsets])
    apart = candidates[:, None] - offsets
    squared = (apart[..., None, :] @ with_bias(information) @ apart[..., None])[..., 0, 0]
    return squared[np.minimum(squared, _OUTLIER).sum(1).argmin()] < _OUTLIER
