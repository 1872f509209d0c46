"""`aprloc benchmark covariance`: covariances from one drive alone, against the simpler ones, where it is easy and where it is hard."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.catalogue import find_map
from aprloc_ros.covariance import LOWEST_DEG, LOWEST_M, HessianCovariance, prior_covariance, residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.refiners import query_camera
from aprloc_ros.scoring.uncertainty import FIVE_SIGMA, score_covariances, squared_mahalanobis
from aprloc_ros.training.benchmarks.measures.damages import damages
from aprloc_ros.training.benchmarks.measures.pooled import HEADER, Judged, pooled_row
from aprloc_ros.training.calibration.covariance_fit import fit_hessian_covariance
from aprloc_ros.training.calibration.from_trials import Passed, calibrate, published
from aprloc_ros.training.calibration.questions import Questions, questions
from aprloc_ros.training.calibration.refiner_calibration import ask
from aprloc_ros.training.calibration.trials import Trial
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.altered import altered
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.presets import PRESETS

_HEADER = '| covariance | frames | ANEES (95 % interval if right) | in 50 / 90 / 95 / 99 % | beyond 5 sigma | median sd cm / deg |'
_UNSCALED = HessianCovariance(1.0, 1.0, 1.0, 0.0, LOWEST_M, LOWEST_DEG, 0, 0, False)
_UNDAMAGED = 'as it is'


def benchmark_covariance(options):
    """Coverage of covariances that were calibrated on the drive that built the map alone, all and by quarters of difficulty;
    then over all maps that were asked before, and over damaged images."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    refiner = options.refiner or bundle.manifest.refiner
    if refiner == 'none':
        raise AprlocError(f'the map {options.name} takes its regressor\'s word: choose whose covariance with --refiner')
    answers = _trials(bundle, refiner, options)
    learned, held_out = answers.learned, answers.held_out[_UNDAMAGED]
    prior = bundle.manifest.covariance
    found = calibrate(learned, prior)
    known, asked = (published(trials, found.gate, prior) for trials in (learned, held_out))
    print(f'{options.name}, refiner {refiner}: {len(known)} answers of {sum(not t.negative for t in learned)} to calibrate on, '
          f'{len(asked)} of {len(held_out)} held-out frames answered\n{found.covariance.describe()}')
    claims = _claims(found.covariance, known, asked, prior)
    print(f'{_HEADER}\n|{"---|" * 6}')
    for name, covariance in claims.items():
        _print_row(name, asked, covariance)
    remoteness, doubt = (torch.tensor(values) for values in zip(*((t.remoteness, 1 - score) for t, score in asked)))
    for name in list(claims)[-2:]:
        for what, difficulty in (('distance to the nearest view', remoteness), ('1 - score', doubt)):
            for number, rows in enumerate(difficulty.argsort(stable=True).tensor_split(4), 1):
                _print_row(f'{name}, quarter {number} by {what}', [asked[i] for i in rows.tolist()], claims[name][rows])
    _print_pooled(options.work, refiner)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of one map."""

    prior: Tensor                       # [6, 6] of its regressor
    learned: list[Trial]                # on its own drive
    held_out: dict[str, list[Trial]]    # on its held-out frames, by what was done to the images


def _print_pooled(work: Path, refiner: str) -> None:
    """Of all answers of the refiner that the work folder keeps."""
    judged = []
    for path in sorted(work.glob(f'*-{refiner}.pt')):
        answers = torch.load(path, weights_only=False)   # of our own making
        found = calibrate(answers.learned, answers.prior)
        judged += [(damage, Judged.of(trials, found, answers.prior)) for damage, trials in answers.held_out.items()]
    print(HEADER)
    each = dict.fromkeys(damage for damage, _ in judged)
    pools = {**{damage: {damage} for damage in each}, 'all damaged images': each.keys() - {_UNDAMAGED}, 'all images': each.keys()}
    for name, damages_in in pools.items():
        print(pooled_row(name, Judged.together([part for damage, part in judged if damage in damages_in])))


def _trials(bundle: MapBundle, refiner: str, options) -> _Answers:
    """On the map's own drive, and on its held-out frames, as they are and damaged; kept in the work folder."""
    cache = options.work / f'{options.name}-{refiner}.pt'
    if cache.is_file():
        return torch.load(cache, weights_only=False)   # of our own making
    capture, camera = read_capture(options.data), query_camera(bundle.manifest)
    trained, unseen, test = (with_lenses(frames, bundle.manifest.lenses)
                             for frames in (*calibration_split(capture.train, capture.name), capture.test))
    asked = questions(unseen, trained, camera)
    learned = ask(bundle, refiner, asked, 0, options.device)
    held_out, blur_px = {}, PRESETS[bundle.manifest.build.preset].descriptors.blur_px
    for number, (name, damage) in enumerate(damages(blur_px).items()):
        generator = torch.Generator().manual_seed(0)
        damaged = altered(test[::options.every], lambda image, damage=damage, generator=generator: damage(image, generator),
                          options.work / f'{options.name}-damaged' / str(number))
        held_out[name] = ask(bundle, refiner, Questions.of_whole_map(damaged, camera), 0, options.device, per_frame=0)
    answers = _Answers(bundle.manifest.covariance, learned, held_out)
    torch.save(answers, cache)
    return answers


def _claims(fitted: HessianCovariance, known: Passed, asked: Passed, prior: Tensor) -> dict[str, Tensor]:
    """What each kind of covariance says of the answers to `asked`, [N, 6, 6], with what it was taught by `known`."""
    whole = [(t, score) for t, score in known if not t.trained and not t.left_out]
    constant = prior_covariance(_residuals(whole)).expand(len(asked), 6, 6)
    before = replace(fit_hessian_covariance(_residuals(whole), torch.stack([t.refined.hessian for t, _ in whole]), prior,
                                    torch.tensor([score for _, score in whole], dtype=torch.float64)), tiers=())

    def of(model: HessianCovariance) -> Tensor:
        return torch.stack([model.covariance(t.refined.hessian, prior, score, t.remoteness) for t, score in asked])
    return {'constant': constant, 'Hessian as it comes': of(_UNSCALED), 'scaled on short blocks': of(before),
            'neighbourhoods left out': of(fitted)}


def _residuals(passed: Passed) -> Tensor:
    T_estimate, T_truth = (torch.stack(poses) for poses in zip(*((t.refined.T_map_cam, t.T_truth) for t, _ in passed)))
    return residuals(T_estimate, T_truth)


def _print_row(name: str, asked: Passed, covariance: Tensor) -> None:
    xi = _residuals(asked)
    scores = score_covariances(xi, covariance)
    beyond = int((squared_mahalanobis(xi, covariance) > FIVE_SIGMA).sum())
    sd_m, sd_rad = torch.diagonal(covariance, dim1=1, dim2=2).unflatten(1, (2, 3)).mean(2).sqrt().median(0).values.tolist()
    low, high = scores.anees_interval
    print(f'| {name} | {scores.count} | {scores.anees:.2f} ({low:.2f} to {high:.2f}) '
          f'| {" / ".join(f"{100 * c.share:.0f}" for c in scores.coverage)} | {beyond} '
          f'| {100 * sd_m:.2f} / {math.degrees(sd_rad):.3f} |', flush=True)
