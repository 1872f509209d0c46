"""`aprloc calibrate`: what a drive through the place, another or its own, says about a map: gates and covariances, no training."""

from dataclasses import replace
from pathlib import Path

import torch

from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle, load_map, save_manifest
from aprloc_ros.refiners import query_camera
from aprloc_ros.scoring.truth_check import check_drive
from aprloc_ros.training.calibration.comparison import why_no_better
from aprloc_ros.training.calibration.questions import questions, taken
from aprloc_ros.training.calibration.refiner_calibration import (
    RefinerScores,
    calibrate_refiners,
    regressor_covariance,
    with_refiners,
)
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.later_drive import ask_some
from aprloc_ros.training.own_frames import is_own
from aprloc_ros.training.request import content_hash
from aprloc_ros.training.resumption import claim


def calibrate_map(directory: Path, data: Path, seed: int = 0, device: str = 'auto', say=print) -> MapBundle:
    """The map with gates and covariances from a capture; it replaces the manifest.

    All frames of another drive count, which are what a robot will meet. Of the drive that built the map those that its build
    held out do, and those that trained it with their own views left out: what a build does, for a map of an older version.
    What the map knows stays where another drive, which it was not calibrated on, teaches it nothing better of its refiner.
    Raises AprlocError for poses that contradict their images or the map.
    """
    claim(directory)
    bundle, capture = load_map(directory, device), read_capture(data)
    own = is_own(bundle, capture)
    trained, unseen = calibration_split(capture.train, capture.name) if own else ((), _in_order((*capture.train, *capture.test)))
    trained, unseen = (with_lenses(frames, bundle.manifest.lenses) for frames in (trained, unseen))
    for note in capture.notes:
        say(note)
    say(f'{capture.format} capture {capture.name}: {len(unseen)} frames to calibrate on'
        + (f', and {len(trained)} that trained the map' if own else ''))
    say(check_poses(unseen, unseen, capture.mounts).text)
    say(check_drive(ask_some(bundle, unseen, device), bundle.manifest))
    prior = regressor_covariance(bundle, unseen, device)
    manifest = replace(bundle.manifest, covariance=prior,
                       data=bundle.manifest.data.calibrated_on('', '') if own else
                       bundle.manifest.data.calibrated_on(capture.name, content_hash(capture)))
    asked = questions(unseen, trained, query_camera(manifest))
    draft = replace(bundle, manifest=manifest)
    found = calibrate_refiners(draft, asked, seed, device, say)
    is_new = not own and manifest.data.calibration_hash != bundle.manifest.data.calibration_hash
    doubt = _doubt(bundle.manifest, found, prior) if is_new else ''
    if doubt:
        say(f'the map keeps its calibration: {doubt}')
        return bundle
    calibrated = with_refiners(draft, found)
    save_manifest(directory, calibrated.manifest)
    say(f'{directory}: calibrated')
    return calibrated


def _doubt(manifest: Manifest, found: dict[str, RefinerScores], prior: torch.Tensor) -> str:
    """Why the map's own refiner, if it has one whose calibration is of this version, knows its errors well enough.

    Nothing speaks for a gate of too few frames to keep its promises where the drive has enough.
    """
    known, new = manifest.refiners.get(manifest.refiner), found.get(manifest.refiner)
    if known is None or new is None or not known.gate.risks or new.spec.gate.supported > known.gate.supported:
        return ''
    return why_no_better(new.trials, prior, known, manifest.covariance)


def _in_order(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(sorted(frames, key=taken))
