"""What frames that were held out of a map say about its refiners: a gate, a covariance, and which one is the best."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import RefinerSpec
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.networks.fusion import fused
from aprloc_ros.refiners import FAST_REFINERS, QUICK_REFINER, missing_for
from aprloc_ros.scoring.evaluation import evaluate_map
from aprloc_ros.training.calibration.from_trials import calibrate
from aprloc_ros.training.calibration.neighbourhoods import without_neighbourhood
from aprloc_ros.training.calibration.questions import Questions
from aprloc_ros.training.calibration.trials import Answered, Trial, try_frame, try_negatives
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.images.negatives import PER_FRAME


@dataclass(frozen=True)
class RefinerScores:
    """A refiner on the calibration frames."""

    spec: RefinerSpec
    trials: list[Trial]
    median_m: float      # of the poses that would be reported
    median_deg: float
    refined_share: float
    text: str            # what gate and covariance say of themselves


def regressor_covariance(bundle: MapBundle, frames: tuple[Frame, ...], device: str) -> Tensor:
    """[6, 6] of the regressor alone, from its errors on frames that trained nothing."""
    records = evaluate_map(Localizer(bundle, device, 'none'), frames)
    return prior_covariance(residuals(*(torch.stack(poses) for poses in zip(*((r.T_estimate, r.T_truth) for r in records)))))


def calibrate_refiner(bundle: MapBundle, name: str, asked: Questions, seed: int, device: str) -> RefinerScores:
    """Gate and covariance of one refiner."""
    trials = ask(bundle, name, asked, seed, device)
    found = calibrate(trials, bundle.manifest.covariance)
    whole = [(trial, judgement.status == 'refined') for trial, judgement in zip(trials, found.judgements, strict=True)
             if trial.ordinary]
    reported, truth = (torch.stack(poses) for poses in zip(*(
        (trial.refined.T_map_cam if use else trial.T_prior, trial.T_truth) for trial, use in whole)))
    error_m, error_deg = pose_errors(reported, truth)
    return RefinerScores(RefinerSpec(found.gate, found.covariance), trials, error_m.median().item(), error_deg.median().item(),
                         sum(use for _, use in whole) / len(whole), found.describe(trials))


def ask(bundle: MapBundle, name: str, asked: Questions, seed: int, device: str, per_frame: int = PER_FRAME) -> list[Trial]:
    """The refiner's answers to the questions, then to images of no place: per_frame made from each that the whole map is asked.

    Frames are as sharp as their camera took them; what is of no place need not be.
    """
    # As if nothing had been calibrated yet: the score of an answer is then the regressor's.
    bundle = replace(bundle, manifest=replace(bundle.manifest, refiner='none', refiners={}))
    # Once for the localizers of all questions: what is fused already is not copied again.
    bundle = replace(bundle, regressor=fused(bundle.regressor),
                     extractor=None if bundle.extractor is None else fused(bundle.extractor))

    whole = Localizer(bundle, device, name)   # in no hurry: a busy machine must not teach it to distrust its refiner

    def answer(localizer: Localizer, pixels: np.ndarray, camera: Camera) -> Answered:
        estimate = localizer.localize(pixels, camera)
        return estimate.T_prior, estimate.score, estimate.refined, estimate.remoteness

    def answer_small(image: Tensor) -> Answered:
        return answer(whole, (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy(), asked.views.camera)

    trials = []
    for index, (image, frame, T_truth, left_out) in enumerate(zip(asked.images, asked.frames, asked.views.T_map_cam,
                                                                  asked.left_out.tolist(), strict=True)):
        localizer = Localizer(without_neighbourhood(bundle, T_truth, left_out), device, name) if left_out else whole
        said = answer(localizer, frame.read_image(), frame.camera)
        trials.append(try_frame(said, image, T_truth, '', left_out, bool(asked.trained[index]), asked.taken[index]))
    plain = [trial.frame for trial in trials if trial.ordinary]
    images = asked.views.images[plain].float() / 255
    return trials + (try_negatives(answer_small, images, plain, torch.Generator().manual_seed(seed), per_frame) if per_frame else [])


def calibrate_refiners(bundle: MapBundle, asked: Questions, seed: int, device: str, say) -> dict[str, RefinerScores]:
    """The fast refiners and the quick one, as far as the map has what they need, by name."""
    found = {}
    for name in (name for name in (*FAST_REFINERS, QUICK_REFINER) if not missing_for(name, bundle)):
        found[name] = calibrate_refiner(bundle, name, asked, seed, device)
        say(f'refiner {name}: median {found[name].median_m:.4f} m / {found[name].median_deg:.3f} deg on the calibration '
            f'frames\n{found[name].text}')
    return found


def with_refiners(bundle: MapBundle, found: dict[str, RefinerScores]) -> MapBundle:
    """The bundle with a manifest that has these calibrated, and the most accurate of the fast ones as its own.

    Accurate means by the median position error of what is reported on the calibration frames; where most of that are first
    poses, it is the same for all, and the one that is believed more often counts.
    """
    best = min((name for name in FAST_REFINERS if name in found), default='none',
               key=lambda name: (found[name].median_m, -found[name].refined_share))
    if best != 'none' and found[best].refined_share == 0:
        best = 'none'
    manifest = replace(bundle.manifest, refiner=best, refiners={name: c.spec for name, c in found.items()})
    return replace(bundle, manifest=manifest)
