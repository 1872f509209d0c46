"""From trials on held-out frames to what a map stores of its refiner: the gate and the covariance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aprloc_ros.covariance import HessianCovariance, residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import MAX_WRONG_SHARE, Gate, Judgement, Risk
from aprloc_ros.geometry import pose_errors
from aprloc_ros.scoring.uncertainty import FEWEST_FRAMES, FIVE_SIGMA, squared_mahalanobis
from aprloc_ros.training.calibration.correlation import correlation_time_s
from aprloc_ros.training.calibration.covariance_fit import fit_hessian_covariance
from aprloc_ros.training.calibration.gate_fit import fit_gate
from aprloc_ros.training.calibration.risks import WRONG_DEG, WRONG_M, risks
from aprloc_ros.training.calibration.trials import Trial, outcomes

Passed = list[tuple[Trial, float]]   # what a gate let through, with its score


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a map stores of its refiner, and how its own calibration frames fare with it."""

    gate: Gate
    covariance: HessianCovariance
    judgements: list[Judgement]   # of the trials, in their order

    def describe(self, trials: Sequence[Trial]) -> str:
        """Two lines for the report of a build."""
        statuses = [j.status for j, trial in zip(self.judgements, trials) if trial.ordinary]
        wrong = [j.status for j, trial in zip(self.judgements, trials) if trial.negative]
        shares = ', '.join(f'{statuses.count(status)} {status}' for status in ('refined', 'prior_kept', 'rejected'))
        doubt = '' if self.gate.supported else '; too few to support what its thresholds promise'
        return (f'gate: of {len(statuses)} held-out frames {shares}; of {len(wrong)} images of no place '
                f'{wrong.count("rejected")} rejected{doubt}\n{self.covariance.describe()}')


def calibrate(trials: Sequence[Trial], prior_covariance: Tensor) -> Calibration:
    """Gate and covariance of a refiner from its trials; prior_covariance [6, 6] of the regressor.

    The covariance is fitted to the frames whose refined pose is published where the user asks for no other share of wrong
    ones, for these are the ones it is claimed of: answers of another place, which the gate knows how to reject, have no
    say. Frames that trained count for it too, as their own views were left out; for the gate they do not, because the
    regressor knows them by heart. Raises AprlocError without a trial on a held-out frame.
    """
    unseen = [trial for trial in trials if not trial.trained]
    if all(trial.negative for trial in unseen):
        raise AprlocError('the refiner cannot be calibrated without a held-out frame; give the capture more frames')
    gate = fit_gate(outcomes(unseen, prior_covariance))
    gate = replace(gate, kept_risks=_kept_risks(unseen, gate, prior_covariance))
    judgements = [gate.judge(t.refined, t.T_prior, prior_covariance, t.prior_score) for t in trials]
    passed = [(t, j.score) for t, j in zip(trials, judgements) if not t.negative and j.status == 'refined']
    if not passed:
        nothing = torch.zeros(0, 6, dtype=torch.float64)
        return Calibration(gate, fit_hessian_covariance(nothing, nothing[..., None], prior_covariance, nothing[:, 0]),
                           judgements)
    covariance = None
    for _ in range(2):   # what is much too far off for the first one raises the threshold, and is claimed of no more
        believed = published(trials, replace(gate, risks=_risks(passed, gate, covariance, prior_covariance)), prior_covariance)
        covariance = covariance_of(believed, prior_covariance)
    return Calibration(replace(gate, risks=_risks(passed, gate, covariance, prior_covariance)), covariance, judgements)


def published(trials: Sequence[Trial], gate: Gate, prior: Tensor) -> Passed:
    """Of the trials on images of the place those that give a refined pose where the user asks for no other share of wrong ones."""
    gate = gate.promising(MAX_WRONG_SHARE)
    judged = [(t, gate.judge(t.refined, t.T_prior, prior, t.prior_score)) for t in trials if not t.negative]
    return [(t, j.score) for t, j in judged if j.status == 'refined']


def covariance_of(passed: Passed, prior: Tensor) -> HessianCovariance:
    """Fitted to the errors of what a gate lets through."""
    xi = _residuals(passed)
    found = fit_hessian_covariance(xi, torch.stack([t.refined.hessian for t, _ in passed]), prior,
                                   torch.tensor([score for _, score in passed], dtype=torch.float64),
                                   torch.tensor([t.remoteness for t, _ in passed], dtype=torch.float64))
    count = len(_frames(passed).unique())
    return replace(found, frames=count, supported=found.supported and count >= FEWEST_FRAMES,
                   correlation_s=_correlation_s(passed, xi, found, prior))


def _risks(passed: Passed, gate: Gate, covariance: HessianCovariance | None, prior: Tensor) -> tuple[Risk, ...]:
    """Of the refined poses that the gate lets through; without a covariance, wrong are those that are much too far off."""
    claims = None if covariance is None else _claims(passed, covariance, prior)
    wrong = _wrong([t.refined.T_map_cam for t, _ in passed], [t.T_truth for t, _ in passed], claims)
    return risks(torch.tensor([score for _, score in passed], dtype=torch.float64), wrong, _frames(passed), gate.accept)


def _frames(passed: Passed) -> Tensor:
    """[N] numbers of the images."""
    return torch.tensor([t.frame for t, _ in passed])


def _residuals(passed: Passed) -> Tensor:
    """[N, 6]"""
    return residuals(torch.stack([t.refined.T_map_cam for t, _ in passed]), torch.stack([t.T_truth for t, _ in passed]))


def _kept_risks(unseen: list[Trial], gate: Gate, prior: Tensor) -> tuple[Risk, ...]:
    """Of the first poses that the gate would keep, each of a frame whose refined pose it does not believe."""
    judged = [(t, gate.judge(t.refined, t.T_prior, prior, t.prior_score)) for t in unseen if not t.negative]
    kept = [(t, j.score) for t, j in judged if j.status == 'prior_kept']
    if not kept:
        return ()
    wrong = _wrong([t.T_prior for t, _ in kept], [t.T_truth for t, _ in kept], prior)
    return risks(torch.tensor([score for _, score in kept], dtype=torch.float64), wrong, _frames(kept), gate.keep)


def _claims(passed: Passed, covariance: HessianCovariance, prior: Tensor) -> Tensor:
    """[N, 6, 6]"""
    return torch.stack([covariance.covariance(t.refined.hessian, prior, score, t.remoteness) for t, score in passed])


def _correlation_s(passed: Passed, xi: Tensor, covariance: HessianCovariance, prior: Tensor) -> float:
    """Of the answers of the whole map to frames that trained nothing, as a robot would get them."""
    rows = torch.tensor([not t.trained and not t.left_out for t, _ in passed])
    factor = torch.linalg.cholesky(_claims(passed, covariance, prior)[rows])
    whitened = torch.linalg.solve_triangular(factor, xi[rows][..., None], upper=False)[..., 0]
    drives, seconds = zip(*(t.taken for (t, _), row in zip(passed, rows.tolist(), strict=True) if row)) if rows.any() else ((), ())
    return correlation_time_s(whitened, list(drives), torch.tensor(seconds, dtype=torch.float64))


def far_off(T_estimate: Tensor, T_truth: Tensor) -> Tensor:
    """Which of N poses are much too far off, whatever is claimed: [N] bool."""
    error_m, error_deg = pose_errors(T_estimate, T_truth)
    return (error_m > WRONG_M) | (error_deg > WRONG_DEG)


def _wrong(T_estimate: list[Tensor], T_truth: list[Tensor], claims: Tensor | None) -> Tensor:
    """Which of N poses are much too far off, or more than 5 sigma of their claims [N, 6, 6], if there are any: [N] bool."""
    T_estimate, T_truth = torch.stack(T_estimate), torch.stack(T_truth)
    wrong = far_off(T_estimate, T_truth)
    if claims is None:
        return wrong
    squared = squared_mahalanobis(residuals(T_estimate, T_truth), claims.expand(len(T_truth), 6, 6))
    return wrong | (squared > FIVE_SIGMA)
