"""What frames that were held out of a map say about its refiners: a gate, a covariance, and which one is the best."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import RefinerSpec
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.refiners import FAST_REFINERS, QUICK_REFINER, missing_for, query_camera
from aprloc_ros.training.calibration.from_trials import calibrate
from aprloc_ros.training.calibration.trials import Answered, genuine_trials, negative_trials
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.images.views import load_views

_MOST_FRAMES = 200


@dataclass(frozen=True)
class RefinerScores:
    """A refiner on the calibration frames."""

    spec: RefinerSpec
    median_m: float      # of the poses that would be reported
    median_deg: float
    refined_share: float
    text: str            # what gate and covariance say of themselves


def calibrate_refiner(bundle: MapBundle, name: str, frames: tuple[Frame, ...], seed: int, device: str) -> RefinerScores:
    """Gate and covariance of one refiner. frames: held out, in the order they were taken."""
    localizer = Localizer(bundle, device, name)   # in no hurry: a busy machine must not teach it to distrust its refiner
    if len(frames) > _MOST_FRAMES:
        frames = tuple(frames[i] for i in torch.linspace(0, len(frames) - 1, _MOST_FRAMES).round().long().tolist())
    views = load_views(frames, query_camera(bundle.manifest))

    def answer(pixels: np.ndarray, camera: Camera) -> Answered:
        estimate = localizer.localize(pixels, camera)
        return estimate.T_prior, estimate.score, estimate.refined

    def answer_small(image: Tensor) -> Answered:
        return answer((image * 255).round().byte().permute(1, 2, 0).contiguous().numpy(), views.camera)
    # Frames as sharp as their camera took them; what is of no place need not be.
    trials = genuine_trials((answer(frame.read_image(), frame.camera) for frame in frames), views.T_map_cam)
    trials += negative_trials(answer_small, views.images.float() / 255, torch.Generator().manual_seed(seed))
    found = calibrate(trials, bundle.manifest.covariance)
    genuine = [trial for trial in trials if not trial.negative]
    refined = [judgement.status == 'refined' for judgement in found.judgements[:len(genuine)]]
    reported = torch.stack([t.refined.T_map_cam if use else t.T_prior for t, use in zip(genuine, refined)])
    error_m, error_deg = pose_errors(reported, views.T_map_cam)
    return RefinerScores(RefinerSpec(found.gate, found.covariance), error_m.median().item(), error_deg.median().item(),
                         sum(refined) / len(genuine), found.describe(trials))


def with_refiners(bundle: MapBundle, frames: tuple[Frame, ...], seed: int, device: str, say) -> MapBundle:
    """The bundle with a manifest that has the fast refiners and the quick one calibrated, as far as the map has what they
    need, and the most accurate of the fast ones as its own.

    Accurate means by the median position error of what is reported on the calibration frames.
    """
    found = {}
    for name in (name for name in (*FAST_REFINERS, QUICK_REFINER) if not missing_for(name, bundle)):
        found[name] = calibrate_refiner(bundle, name, frames, seed, device)
        say(f'refiner {name}: median {found[name].median_m:.4f} m / {found[name].median_deg:.3f} deg on the calibration '
            f'frames\n{found[name].text}')
    best = min(found.keys() & set(FAST_REFINERS), key=lambda name: found[name].median_m, default='none')
    if best != 'none' and found[best].refined_share == 0:
        best = 'none'
    manifest = replace(bundle.manifest, refiner=best, refiners={name: c.spec for name, c in found.items()})
    return replace(bundle, manifest=manifest)
