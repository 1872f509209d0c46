"""Poses that others predicted, scored and laid out as the papers do: an npz of poses for each scene."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.scoring.evaluation import PoseScores, score_poses
from aprloc_ros.table import aligned

# Scenes in the order of the papers' tables (NeFeS, Tables 1 and 2), which average over one data set at a time.
DATA_SETS = {'Cambridge Landmarks': ('KingsCollege', 'OldHospital', 'ShopFacade', 'StMarysChurch'),
             '7-Scenes': ('chess', 'fire', 'heads', 'office', 'pumpkin', 'redkitchen', 'stairs')}
OTHERS = 'other scenes'


def score_file(path: Path) -> dict[str, PoseScores]:
    """Scores of published predictions: an npz of [N, 3, 4] or [N, 4, 4] camera-to-world arrays, one named `truth`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            poses = {name: torch.from_numpy(np.asarray(file[name], np.float64)) for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise AprlocError(f'{path}: missing or not an npz of poses ({str(error).splitlines()[0]})') from None
    truth = poses.pop('truth', None)
    if truth is None or not poses:
        raise AprlocError(f'{path}: must hold an array named truth and others, not {", ".join(poses) or "truth alone"}')
    try:
        return {name: score_poses(estimate, truth) for name, estimate in poses.items()}
    except AprlocError as error:
        raise AprlocError(f'{path}: {error}') from None


def score_folder(path: Path) -> dict[str, dict[str, PoseScores]]:
    """Scene -> method -> scores, of every npz in a folder; of a single file, its scene alone."""
    files = sorted(path.glob('[!.]*.npz')) if path.is_dir() else [path]   # not macOS' ._NAME
    if not files:
        raise AprlocError(f'{path}: holds no npz of poses')
    return {file.stem: score_file(file) for file in files}


def medians_tables(scenes: dict[str, dict[str, PoseScores]]) -> str:
    """A table for each data set: a row for each method, median m/deg of each scene to two digits, and their average."""
    known = {scene for names in DATA_SETS.values() for scene in names}
    groups = {**DATA_SETS, OTHERS: tuple(scene for scene in scenes if scene not in known)}
    present = {title: [name for name in names if name in scenes] for title, names in groups.items()}
    return '\n\n'.join(_medians_table(title, {name: scenes[name] for name in names})
                       for title, names in present.items() if names)


def _medians_table(title: str, scenes: dict[str, dict[str, PoseScores]]) -> str:
    methods = list(dict.fromkeys(method for scores in scenes.values() for method in scores))
    rows = [[f'{title}, median m/deg', *scenes, 'average']]
    for method in methods:
        medians = [(s[method].median_m, s[method].median_deg) if method in s else None for s in scenes.values()]
        rows.append([method, *map(_cell, medians), _cell(_average(medians))])
    return aligned(rows)


def _average(medians: Iterable[tuple[float, float] | None]) -> tuple[float, float] | None:
    """None where a scene is missing: the average over others would not compare."""
    medians = list(medians)
    return None if None in medians else tuple(np.mean(medians, axis=0))


def _cell(median: tuple[float, float] | None) -> str:
    return '-' if median is None else f'{median[0]:.2f}/{median[1]:.2f}'
