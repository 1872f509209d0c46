"""Whether a later drive teaches a map better than what it knew of itself: judged on stretches of the drive that taught nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from aprloc_ros.covariance import residuals
from aprloc_ros.distributions import binomial_cdf
from aprloc_ros.manifest import RefinerSpec
from aprloc_ros.scoring.uncertainty import FEWEST_FRAMES, negative_log_likelihood, score_covariances
from aprloc_ros.training.calibration.from_trials import Calibration, calibrate, covariance_of, far_off, published
from aprloc_ros.training.calibration.gate_fit import MOST_LEAKED, RISK
from aprloc_ros.training.calibration.refiner_calibration import RefinerScores
from aprloc_ros.training.calibration.trials import Trial

_BLOCKS = 5
_LEAST_BELIEVED = 0.25   # share of a drive's answers
Claims = dict[int, Tensor]   # number of a trial -> the covariance [6, 6] of its refined pose, where that is believed


def why_no_better(trials: Sequence[Trial], prior: Tensor, known: RefinerSpec, known_prior: Tensor) -> str:
    """What speaks for what the map knows, in words; empty where a calibration on these trials of another drive is better.

    prior, known_prior [6, 6] of the regressor, as the drive and the map have it. Better is the likelihood of the errors
    under what is claimed of them, on frames that both believe, each by a calibration on the other blocks of the drive.
    """
    genuine = [i for i, trial in enumerate(trials) if not trial.negative]
    frames = torch.tensor(sorted({trials[i].frame for i in genuine}))
    if len(frames) < FEWEST_FRAMES:
        return f'{len(frames)} frames are too few to know better ({FEWEST_FRAMES} are needed)'
    old = _claims(trials, genuine, known, known_prior)
    new = {}
    for block in frames.tensor_split(_BLOCKS):
        held = set(block.tolist())
        found = calibrate([trial for trial in trials if trial.frame not in held], prior)
        new |= _claims(trials, [i for i in genuine if trials[i].frame in held], found, prior)
    if len(new) < FEWEST_FRAMES <= len(old):
        return f'calibrated on the drive it would believe {len(new)} answers of {len(genuine)}, not {len(old)}'
    if len(new) < min(FEWEST_FRAMES, _LEAST_BELIEVED * len(genuine)):
        return (f'even calibrated on the drive it would believe {len(new)} answers of {len(genuine)}: of another place, in another light '
                'altogether, or with poses in another frame it teaches nothing')
    both = sorted(old.keys() & new.keys())
    if len(both) < FEWEST_FRAMES:
        return ''
    before, after = (_surprise(trials, both, claims) for claims in (old, new))
    return '' if after < before else (
        f'on {len(both)} answers, each left out, a calibration on the drive explains the errors no better: {after:.2f} nats '
        f'a frame, what the map knows {before:.2f} (the less the better)')


def with_what_holds(known: Mapping[str, RefinerSpec], found: dict[str, RefinerScores], prior: Tensor,
                    say: Callable[[str], None]) -> dict[str, RefinerScores]:
    """A later drive's calibrations, or where its frames are too few to support one what the map knew, if it holds on them.

    A gate that holds stays. What it lets through may err by more than the map says: that is claimed then, and no less than before.
    """
    kept = {}
    for name, scores in found.items():
        old, new = known.get(name), scores.spec.gate
        if not old or old.gate.frames <= new.frames or new.supported or not gate_holds(scores.trials, prior, old):
            continue
        too_few = f'refiner {name}: the drive has too few frames for a calibration of its own ({new.frames}); that of before ({old.gate.frames}) '
        if covariance_holds(scores.trials, prior, old):
            say(too_few + 'holds on them, and stays')
        else:
            old = replace(old, covariance=covariance_of(published(scores.trials, old.gate, prior), prior).no_surer_than(old.covariance))
            say(too_few + 'believes the right ones of them, and stays, but they err by more than it says: it claims as much now')
        kept[name] = replace(scores, spec=old)
    return {**found, **kept}


def gate_holds(trials: Sequence[Trial], prior: Tensor, known: RefinerSpec) -> bool:
    """Whether a later drive, which has too few frames for a gate of its own, leaves a map's gate standing.

    It believes at least half of what the drive asks as a robot would, and no more images of no place or answers that are far off
    than the gate may: more frames have shown that of it, and few can only speak against it. prior [6, 6] of the regressor, as it is now.
    """
    claims = _claims(trials, list(range(len(trials))), known, prior)
    ordinary, negative = ([i for i, trial in enumerate(trials) if chosen(trial)]
                          for chosen in (lambda trial: trial.ordinary, lambda trial: trial.negative))
    genuine = sorted(claims.keys() - set(negative))
    if 2 * sum(i in claims for i in ordinary) < max(len(ordinary), 1):
        return False
    far = sum(bool(is_far) for is_far in far_off(*_poses(trials, genuine)))
    return not (_too_many(len(claims) - len(genuine), len(negative)) or _too_many(far, len(genuine)))


def _too_many(violations: int, count: int) -> bool:
    """Whether so many would hardly be seen if a gate's bound on leaks held: once in ten times."""
    return violations > 0 and 1 - binomial_cdf(violations - 1, count, MOST_LEAKED) < RISK


def covariance_holds(trials: Sequence[Trial], prior: Tensor, known: RefinerSpec) -> bool:
    """Whether answers that the gate believes err by no more than the map says."""
    claims = _claims(trials, [i for i, trial in enumerate(trials) if not trial.negative], known, prior)
    scores = score_covariances(residuals(*_poses(trials, list(claims))), torch.stack(list(claims.values())))
    return scores.anees <= scores.anees_interval[1]


def _poses(trials: Sequence[Trial], numbers: list[int]) -> tuple[Tensor, Tensor]:
    """Refined and true, [N, 4, 4] each."""
    return tuple(torch.stack(poses) for poses in zip(*((trials[i].refined.T_map_cam, trials[i].T_truth) for i in numbers)))


def _claims(trials: Sequence[Trial], numbers: list[int], spec: RefinerSpec | Calibration, prior: Tensor) -> Claims:
    claims = {}
    for i in numbers:
        t = trials[i]
        judged = spec.gate.judge(t.refined, t.T_prior, prior, t.prior_score)
        if judged.status == 'refined':
            claims[i] = spec.covariance.covariance(t.refined.hessian, prior, judged.score, t.remoteness)
    return claims


def _surprise(trials: Sequence[Trial], numbers: list[int], claims: Claims) -> float:
    return negative_log_likelihood(residuals(*_poses(trials, numbers)), torch.stack([claims[i] for i in numbers]))
