"""`aprloc calibrate`: what a second drive through the place says about its map: gates and covariances, no training."""

from dataclasses import replace
from pathlib import Path

import torch

from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map, save_manifest
from aprloc_ros.scoring.evaluation import evaluate_map
from aprloc_ros.training.calibration.refiner_calibration import with_refiners
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.checks.map_agreement import check_drive
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.request import content_hash

_CHECKED_FRAMES = 40


def calibrate_map(directory: Path, data: Path, seed: int = 0, device: str = 'auto', say=print) -> MapBundle:
    """The map with gates and covariances from all frames of a capture that trained nothing; it replaces the manifest.

    Held-out blocks of one drive share its light and its route, and are few; another drive is what a robot will meet.
    Raises AprlocError for the capture that the map was built from, and for poses that contradict its images or the map.
    """
    bundle, capture = load_map(directory, device), read_capture(data)
    if content_hash(capture) == bundle.manifest.data.content_hash:
        raise AprlocError(f'{data}: the map was built from this capture; calibrate with another drive through the place')
    frames = with_lenses(tuple(sorted((*capture.train, *capture.test), key=_taken)), bundle.manifest.lenses)
    for note in capture.notes:
        say(note)
    say(f'{capture.format} capture {capture.name}: {len(frames)} frames to calibrate on')
    say(check_poses(frames, frames, capture.mounts).text)
    say(check_drive(evaluate_map(Localizer(bundle, device), _few(frames)), bundle.manifest))
    prior = prior_covariance(_regressor_residuals(bundle, frames, device))
    manifest = replace(bundle.manifest, covariance=prior, data=replace(bundle.manifest.data, calibration=capture.name))
    calibrated = with_refiners(replace(bundle, manifest=manifest), frames, seed, device, say)
    save_manifest(directory, calibrated.manifest)
    return calibrated


def _few(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    chosen = torch.linspace(0, len(frames) - 1, min(_CHECKED_FRAMES, len(frames))).round().long()
    return tuple(frames[index] for index in chosen.tolist())


def _taken(frame: Frame) -> tuple:
    """Neighbours in this order are neighbours in time: what is left out of a fit are whole stretches of a drive."""
    return frame.sequence, frame.stamp_s or 0.0, frame.name


def _regressor_residuals(bundle: MapBundle, frames: tuple[Frame, ...], device: str) -> torch.Tensor:
    """[N, 6]"""
    records = evaluate_map(Localizer(bundle, device, 'none'), frames)
    return residuals(torch.stack([r.T_estimate for r in records]), torch.stack([r.T_truth for r in records]))
