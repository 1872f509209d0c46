"""A map in another frame, rigidly or with another unit: only numbers change, no network is trained."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.catalogue import FILE_NAME
from aprloc_ros.covariance import LOWEST_DEG, LOWEST_M, axis_groups, floor_covariance
from aprloc_ros.manifest import Lesson, Manifest, RefinerSpec, read_manifest
from aprloc_ros.map_bundle import save_moved
from aprloc_ros.similarity import Similarity


def move_map(directory: Path, change: Similarity) -> Manifest:
    """Give a map on disk another frame, all or nothing -> its new manifest.

    The networks see a place in coordinates of their own (SceneNormalisation) and stay as they are, bit for bit. Raises
    AprlocError for a map that is damaged or cannot be written.
    """
    return save_moved(directory, moved_manifest(read_manifest(directory / FILE_NAME), change), change)


def moved_manifest(manifest: Manifest, change: Similarity) -> Manifest:
    """All of a manifest that is a pose, a position or a length. Covariances are in the camera's axes, which do not turn."""
    refiners = {name: _moved_refiner(spec, change.scale) for name, spec in manifest.refiners.items()}
    drives = tuple(replace(drive, accuracy=_moved_accuracy(drive.accuracy, change.scale)) for drive in manifest.data.drives)
    return replace(manifest, scene=manifest.scene.moved(change), refiners=refiners, data=replace(manifest.data, drives=drives),
                   accuracy=_moved_accuracy(manifest.accuracy, change.scale),
                   covariance=scaled_covariance(manifest.covariance, change.scale),
                   lessons=tuple(_moved_lesson(lesson, change.scale) for lesson in manifest.lessons),
                   history=_moved_history(manifest.history, change.scale), frame=manifest.frame.moved(change))


def scaled_covariance(covariance: Tensor, scale: float) -> Tensor:
    """Of poses whose unit of length is now so many: [6, 6] -> [6, 6], not below what a covariance may be."""
    by = axis_groups(scale, 1.0)
    scaled = by[:, None] * covariance * by
    short = torch.diagonal(floor_covariance(LOWEST_M, LOWEST_DEG)) - torch.diagonal(scaled)
    return scaled + torch.diag(short.clamp_min(0))


def _moved_accuracy(accuracy: dict[str, float], scale: float) -> dict[str, float]:
    return {name: value * scale if name.endswith('_m') else value for name, value in accuracy.items()}


def _moved_refiner(spec: RefinerSpec, scale: float) -> RefinerSpec:
    """A Hessian is per metre and so changes with the unit by itself; only the floor is a length."""
    return replace(spec, covariance=replace(spec.covariance, floor_m=max(LOWEST_M, scale * spec.covariance.floor_m)))


def _moved_lesson(lesson: Lesson, scale: float) -> Lesson:
    return replace(lesson, before_m=scale * lesson.before_m, after_m=scale * lesson.after_m)


def _moved_history(history: dict[str, list[list[float]]], scale: float) -> dict[str, list[list[float]]]:
    """Scores of the regressor are rows of seconds, metres and degrees."""
    rows = [[seconds, scale * error_m, *rest] for seconds, error_m, *rest in history.get('regressor', [])]
    return {**history, 'regressor': rows} if rows else history
