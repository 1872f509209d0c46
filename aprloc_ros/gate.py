"""Did the refinement work? Two small logistic models on signals, and the thresholds that a build calibrated for them."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.distributions import binomial_cdf
from aprloc_ros.errors import AprlocError
from aprloc_ros.refinement.refined import Refined

CONFIDENCE = 0.9         # of what is promised
MAX_WRONG_SHARE = 0.01   # of the published poses, where the user asks for no other
_NOT_NEGATIVE = {'range': (0.0, None)}
_SHARE = {'range': (0.0, 1.0)}
_COUNT = {'range': (0, None)}
_LARGEST_LOG_RATIO = 10.0
_LARGEST_LOGIT = 30.0   # keeps scores inside (0, 1), so that a threshold of 1 accepts nothing
_WORST_DISPLACEMENT = 1e6


@dataclass(frozen=True)
class Judgement:
    """What becomes of a query: the refined pose, the prior's, or none."""

    status: str    # 'refined', 'prior_kept' or 'rejected'
    score: float   # 0 to 1, 1 is best: of the pose that is reported, or of the refined one where none is


@dataclass(frozen=True)
class SignalScore:
    """A logistic model whose score never falls when a signal rises: every signal is 'more is better'.

    score = 1 / (1 + exp(-(bias + sum of weights * (signal - centres)))). A signal that is missing says nothing: it
    counts as at its centre. One that is not finite is the mark of something broken: the score is 0.
    """

    signals: tuple[str, ...]
    centres: tuple[float, ...]
    weights: tuple[float, ...] = field(metadata=_NOT_NEGATIVE)
    bias: float

    def __post_init__(self):
        if not len(self.signals) == len(self.centres) == len(self.weights) == len(set(self.signals)):
            raise AprlocError(f'signals, centres and weights are {len(self.signals)}, {len(self.centres)} and '
                              f'{len(self.weights)}; there must be as many of each, and no signal twice')

    def score(self, signals: dict[str, float]) -> float:
        """signals by name; those the model does not know are ignored."""
        logit = self.bias
        for name, centre, weight in zip(self.signals, self.centres, self.weights):
            value = signals.get(name, centre)
            if not math.isfinite(value):
                return 0.0
            logit += weight * (value - centre)
        return 1 / (1 + math.exp(-max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, logit))))


@dataclass(frozen=True)
class Risk:
    """What became of the calibration's answers of one kind whose score is above a threshold.

    Wrong: more than 5 sigma of their covariance off, or 50 cm, or 5 degrees.
    """

    accept: float = field(metadata=_SHARE)
    answered: int = field(metadata=_COUNT)
    wrong: int = field(metadata=_COUNT)

    def confidence(self, share: float) -> float:
        """That at most this share of such answers is wrong, from 0 to 1 (Clopper and Pearson 1934)."""
        return 1 - binomial_cdf(self.wrong, self.answered, share) if self.answered else 0.0


@dataclass(frozen=True)
class Gate:
    """The judge of a map's refiner; training.gate_fit fits it on held-out frames and on images of no place.

    A refined pose whose score is above `accept` is reported. Else the prior is, with its own, larger covariance, if its
    score is above `keep`. Else the query is rejected. Risks are by rising threshold; maps of older versions have none.
    """

    refined: SignalScore            # is the refined pose right?
    prior: SignalScore              # is the prior credible: is this the place at all?
    accept: float = field(metadata=_SHARE)
    keep: float = field(metadata=_SHARE)
    frames: int = field(metadata=_COUNT)      # held-out frames behind it
    negatives: int = field(metadata=_COUNT)   # images of no place behind it
    supported: bool                           # whether they are enough for what the thresholds promise
    risks: tuple[Risk, ...] = ()              # of refined poses; the first threshold is `accept`
    kept_risks: tuple[Risk, ...] = ()         # of priors of frames whose refined pose is not believed; from `keep` on

    def risk(self, max_wrong_share: float) -> Risk | None:
        """The lowest threshold above which no more than this share is wrong with CONFIDENCE. Where none is so sure, the lowest above
        which no more of the calibration's were; the surest where even that is nowhere so.

        None: the map is of an older version and cannot tell.
        """
        sure = [risk for risk in self.risks if risk.confidence(max_wrong_share) >= CONFIDENCE]
        within = [risk for risk in self.risks if risk.answered and risk.wrong <= max_wrong_share * risk.answered]
        surest = max(self.risks, key=lambda risk: risk.confidence(max_wrong_share), default=None)
        return (sure or within or [surest])[0]

    def promising(self, max_wrong_share: float) -> 'Gate':
        """The gate that lets no more through than that allows, as far as the calibration can tell.

        Of refined poses as many as `risk` says where none is so sure, for they are what a map is for. Of priors none then: most are
        metres off, and those of images that the refiner failed on are the worst.
        """
        risk = self.risk(max_wrong_share)
        sure = (kept.accept for kept in self.kept_risks if kept.confidence(max_wrong_share) >= CONFIDENCE)
        return replace(self, accept=self.accept if risk is None else risk.accept, keep=next(sure, 1.0))

    def promise(self, max_wrong_share: float) -> str:
        """What that means, in words."""
        risk = self.risk(max_wrong_share)
        if risk is None:
            return 'the map is of an older version and promises nothing; aprloc calibrate NAME --data DRIVE'
        confidence, most = risk.confidence(max_wrong_share), self.risks[0].answered
        doubt = '' if confidence >= CONFIDENCE else ': too few calibration frames for more'
        first_poses = 'no first pose' if self.promising(max_wrong_share).keep == 1 else 'first poses that are as sure'
        return (f'at most {max_wrong_share:.2%} of the published poses are wrong, with confidence {confidence:.0%}{doubt}; '
                f'{risk.answered / max(most, 1):.0%} of those that the map believes are published; where it believes none, '
                f'{first_poses}')

    def judge(self, refined: Refined, T_prior: Tensor | None, prior_covariance: Tensor,
              prior_score: float | None = None) -> Judgement:
        """T_prior: [4, 4], None where there is none (a global refiner alone); prior_covariance: [6, 6].

        prior_score: the regressor's word on itself, 0 to 1; None for a prior from elsewhere (tracking, a click).
        """
        signals = gate_signals(refined, T_prior, prior_covariance, prior_score)
        score = 0.0 if refined.failed else self.refined.score(signals)
        if score > self.accept:
            return Judgement('refined', score)
        prior = 0.0 if T_prior is None else self.prior.score(signals)
        return Judgement('prior_kept', prior) if prior > self.keep else Judgement('rejected', score)


def gate_signals(refined: Refined, T_prior: Tensor | None, prior_covariance: Tensor,
                 prior_score: float | None = None) -> dict[str, float]:
    """All that speaks for a refined pose and its prior, each the better the larger.

    The refiner's own signals; 'cost_drop': -log(cost after / before); 'closeness': -log(1 + d) with d the displacement
    from the prior in root mean square sigmas of its covariance; 'prior_score'; 'worked': 0 if the refiner gave up.
    """
    signals = dict(refined.signals, worked=float(not refined.failed))
    if 0 < refined.cost_before < math.inf and 0 <= refined.cost_after < math.inf:
        ratio = max(refined.cost_after / refined.cost_before, math.exp(-_LARGEST_LOG_RATIO))
        signals['cost_drop'] = max(-math.log(ratio), -_LARGEST_LOG_RATIO)
    if T_prior is not None and not refined.failed:
        signals['closeness'] = -math.log1p(displacement_sigmas(refined.T_map_cam, T_prior, prior_covariance))
    if prior_score is not None:
        signals['prior_score'] = prior_score
    return signals


def displacement_sigmas(T_refined: Tensor, T_prior: Tensor, prior_covariance: Tensor) -> float:
    """Root mean square over the 6 axes of the displacement, whitened by the prior's covariance; poses are [4, 4]."""
    xi = residuals(T_prior.double().cpu(), T_refined.double().cpu())
    squared = (xi @ torch.linalg.solve(prior_covariance.double().cpu(), xi)).item() / len(xi)
    return min(math.sqrt(squared), _WORST_DISPLACEMENT) if math.isfinite(squared) and squared >= 0 else math.inf
