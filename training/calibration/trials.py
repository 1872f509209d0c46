"""A refiner tried on images whose true pose is known, or that have none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.gate import gate_signals
from aprloc_ros.geometry import pose_errors
from aprloc_ros.refinement.refined import Refined
from aprloc_ros.training.images.negatives import PER_FRAME, negatives

WORSE_M, WORSE_DEG = 0.05, 0.5   # a refined frame that is so much worse than its prior counts as a harm
_TYPICAL = 5.0                   # a refined pose is right within so many median errors
_CREDIBLE = 22.458               # squared Mahalanobis distance of a prior: 99.9 % of chi-square with 6 degrees


@dataclass(frozen=True, eq=False)
class Trial:
    """One query, answered."""

    frame: int                   # number of the image it is, or was made from; the same for all that is asked about one
    negative: str                # '' for the image itself, else its kind of NEGATIVES
    T_prior: Tensor              # [4, 4] float64
    prior_score: float | None
    refined: Refined
    T_truth: Tensor | None       # [4, 4] float64; None for a negative
    remoteness: float = 0.0      # of the refined pose from the views that the map was asked with
    left_out: int = 0            # so many of its views were not among these
    trained: bool = False        # whether the frame had its part in the map's training
    taken: tuple[str, float] = ('', math.nan)   # drive and seconds

    @property
    def ordinary(self) -> bool:
        """An image of the place, asked of the whole map, as a robot asks."""
        return not (self.negative or self.left_out)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """N trials as columns: what the gate sees, and what was true."""

    signals: list[dict[str, float]]
    negative: list[str]
    frame: Tensor      # [N] int64
    failed: Tensor     # [N] bool: the refiner gave up
    good: Tensor       # [N] bool: the refined pose is right
    harmful: Tensor    # [N] bool: the refined pose is worse than the prior by more than 5 cm or 0.5 degrees
    credible: Tensor   # [N] bool: the prior is right within its covariance

    @property
    def genuine(self) -> Tensor:
        return torch.tensor([not kind for kind in self.negative])


# Of an image its prior [4, 4], the prior's score (None: it has none), the refined result, its remoteness.
Answered = tuple[Tensor, float | None, Refined, float]


def try_frame(said: Answered, frame: int, T_truth: Tensor | None, negative: str = '', left_out: int = 0,
              trained: bool = False, taken: tuple[str, float] = ('', math.nan)) -> Trial:
    """What became of an image; on the CPU, wherever the refiner works."""
    T_prior, prior_score, refined, remoteness = said
    refined = replace(refined, T_map_cam=refined.T_map_cam.double().cpu(), hessian=refined.hessian.double().cpu())
    return Trial(frame, negative, T_prior.double().cpu(), prior_score, refined,
                 None if T_truth is None else T_truth.double().cpu(), remoteness, left_out, trained, taken)


def try_negatives(answer: Callable[[Tensor], Answered], images: Tensor, frames: list[int], generator: torch.Generator,
                  per_frame: int = PER_FRAME) -> list[Trial]:
    """On per_frame images of no place made from each of the images [N, 3, h, w] in [0, 1], which are of these frames."""
    return [try_frame(answer(image), frames[index], None, kind)
            for kind, index, image in negatives(images, generator, per_frame)]


def outcomes(trials: Sequence[Trial], prior_covariance: Tensor) -> Outcomes:
    """What became of the trials.

    Right is a refined pose within 5 median errors, no more than one median error worse than its prior, and not
    harmful: as strict as the refiner is good, and free of the scene's scale but for what counts as harm.
    """
    truth = [trial.T_truth for trial in trials if not trial.negative]
    genuine = torch.tensor([not trial.negative for trial in trials])
    good, harmful, credible = (torch.zeros(len(trials), dtype=torch.bool) for _ in range(3))
    failed = torch.tensor([trial.refined.failed for trial in trials])
    if truth:
        T_truth = torch.stack(truth)
        T_prior = torch.stack([trial.T_prior for trial in trials if not trial.negative])
        T_refined = torch.stack([trial.refined.T_map_cam for trial in trials if not trial.negative])
        refined, prior = (torch.stack(pose_errors(T, T_truth)) for T in (T_refined, T_prior))   # [2, n]: m, deg
        harmful[genuine] = harmful_poses(refined, prior)
        good[genuine] = right_poses(refined, prior, ~failed[genuine]) & ~harmful[genuine]
        xi = residuals(T_prior, T_truth)
        credible[genuine] = (xi * torch.linalg.solve(prior_covariance, xi.T).T).sum(1) <= _CREDIBLE
    signals = [gate_signals(t.refined, t.T_prior, prior_covariance, t.prior_score) for t in trials]
    return Outcomes(signals, [t.negative for t in trials], torch.tensor([t.frame for t in trials]), failed, good,
                    harmful, credible)


def right_poses(refined: Tensor, prior: Tensor, answered: Tensor) -> Tensor:
    """Errors [2, N] in m and deg of refined poses and priors, [N] bool: the refiner did not give up -> [N] bool."""
    if not answered.any():
        return answered
    median = refined[:, answered].quantile(0.5, 1, keepdim=True)
    return answered & ((refined <= prior + median) & (refined <= _TYPICAL * median)).all(0)


def harmful_poses(refined: Tensor, prior: Tensor) -> Tensor:
    """Errors [2, N] in m and deg of refined poses and priors -> [N] bool."""
    return ((refined - prior) > refined.new_tensor([[WORSE_M], [WORSE_DEG]])).any(0)
