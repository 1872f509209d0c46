"""`aprloc benchmark pose`: captures posed without their poses, beside COLMAP's defaults on the same images."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.benchmarks.measures.laying import errors_after_similarity
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.files import beside
from aprloc_ros.training.datasets.parsing import natural_key
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.posing.pose import pose
from aprloc_ros.training.posing.posed import camera_poses
from aprloc_ros.training.posing.sources.photos import find_images
from aprloc_ros.training.posing.sources.taking import link
from aprloc_ros.training.structure.colmap import load_pycolmap

_SEQUENTIAL_FROM = 200   # images; COLMAP's defaults match fewer exhaustively


@dataclass(frozen=True, eq=False)
class _Task:
    """Images in one folder, and their true poses by name, of those that have one."""

    name: str
    images: Path
    count: int
    truth: dict[str, Tensor]


def benchmark_pose(options):
    """Registered share, error after a similarity, and time: ours and pycolmap's functions with their defaults."""
    methods = {'aprloc': _ours, 'colmap': _defaults}
    print(f'on {describe_hardware(torch.device("cpu"))}, no pose and no lens given')
    print('| capture | by | posed | RMS units | of the extent | RMS deg | wall s | CPU s |\n' + '|---' * 8 + '|')
    for data in options.data:
        task = _task(data, options.frames, options.work)
        for method in options.by:
            print(_row(task, method, methods[method], options.work / task.name / method), flush=True)


def _task(data: Path, most: int, work: Path) -> _Task:
    """Evenly chosen images of a capture, those beside its frames too, as links that are named by their order.

    A capture is without the frames next to what it holds out; a video without them would come in pieces.
    """
    try:
        capture = read_capture(data)
    except AprlocError:
        files, poses = find_images(Path(data)) if Path(data).is_dir() else [], {}
        if not files:
            raise
    else:
        poses = {frame.image_path: frame.T_map_cam for frame in (*capture.train, *capture.test)}
        files = sorted({*poses, *beside(poses)}, key=lambda file: natural_key(str(file)))
    chosen = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int))
    name = Path(data).resolve().name
    images = work / name / 'images'
    shutil.rmtree(work / name, ignore_errors=True)
    names = {f'{i:06d}{files[i].suffix.lower()}': files[i] for i in chosen.tolist()}
    for link_name, file in names.items():
        link(file, images / link_name)
    return _Task(name, images, len(names), {k: poses[file] for k, file in names.items() if file in poses})


def _row(task: _Task, method: str, run: Callable, out: Path) -> str:
    wall, cpu = time.perf_counter(), _processor_s()
    try:
        found = run(task, out)
    except AprlocError as error:
        return f'| {task.name} | {method} | {error} |'
    spent = f'{time.perf_counter() - wall:.0f} | {_processor_s() - cpu:.0f}'
    share = f'{len(found)} of {task.count} ({len(found) / task.count:.1%})'
    errors = _errors(found, task.truth) if task.truth else '- | - | -'
    return f'| {task.name} | {method} | {share} | {errors} | {spent} |'


def _processor_s() -> float:
    """Of this process and those it waited for."""
    return sum(os.times()[:4])


def _errors(found: dict[str, Tensor], truth: dict[str, Tensor]) -> str:
    names = sorted(found.keys() & truth.keys())
    ours, true = (torch.stack([poses[name] for name in names]) for poses in (found, truth))
    apart, turned_deg = errors_after_similarity(ours, true)
    extent = (true[:, :3, 3].amax(0) - true[:, :3, 3].amin(0)).norm().item()
    return f'{apart:.4f} | {apart / extent:.2%} | {turned_deg:.2f}'


def _ours(task: _Task, out: Path) -> dict[str, Tensor]:
    pose(task.images, out, frames=task.count, say=lambda text: None)   # all of them: it would choose fewer of a long video
    return camera_poses(load_pycolmap().Reconstruction(out / 'sparse' / '0'))


def _defaults(task: _Task, out: Path) -> dict[str, Tensor]:
    """COLMAP's SIFT, matching and incremental mapping; one camera, as the images of each capture have."""
    pycolmap = load_pycolmap()
    out.mkdir(parents=True)
    database = out / 'database.db'
    pycolmap.extract_features(database, task.images, camera_mode=pycolmap.CameraMode.SINGLE)
    (pycolmap.match_sequential if task.count >= _SEQUENTIAL_FROM else pycolmap.match_exhaustive)(database)
    models = pycolmap.incremental_mapping(database, task.images, out)
    return camera_poses(max(models.values(), key=lambda model: model.num_reg_images())) if models else {}
