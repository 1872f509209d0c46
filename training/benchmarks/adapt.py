"""`aprloc benchmark adapt`: half of the held-out images, without their poses, teach the regressor; the other half scores it."""

import time

import numpy as np
import torch
from torch import nn

from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.geometry import pose_errors
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.scoring.evaluation import PoseScores, score_poses
from aprloc_ros.training.adapt_map import adaptation
from aprloc_ros.training.adapting.drive import answered
from aprloc_ros.training.benchmarks.measures.regressors import with_regressor
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.altered import altered
from aprloc_ros.training.images.views import Views, load_views, with_lenses
from aprloc_ros.training.stages.adaptation import METHODS
from aprloc_ros.training.stages.regressor import predict_poses

_RUN = 10   # consecutive images that teach, then as many that score


def benchmark_adapt(options):
    """The regressor before and after each method of aprloc adapt; runs of ten held-out images teach and score in turn."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    options.work.mkdir(parents=True, exist_ok=True)
    test = with_lenses(read_capture(options.data).test[::options.every], bundle.manifest.lenses)
    if options.gamma != 1.0:
        table = np.round(255 * np.linspace(0, 1, 256) ** options.gamma).astype(np.uint8)
        test = altered(test, lambda image: table[image], options.work / 'images')
    taught, scored = (tuple(f for i, f in enumerate(test) if (i // _RUN) % 2 == turn) for turn in (0, 1))
    own = bundle
    if options.regressor:
        bundle = with_regressor(own, options.data, options.regressor, options.work / options.regressor.stem, options.device)
    answers, believed = answered(own, taught, options.work, options.device)
    error_m, error_deg = pose_errors(*(torch.stack([f.T_map_cam for f in frames])[believed] for frames in (answers, taught)))
    print(f'{options.name}: {len(taught)} images teach, {len(scored)} score, gamma {options.gamma:g}, on '
          f'{describe_hardware(resolve_device(options.device))}; of {len(taught)} answers the map believes {len(error_m)}, off by '
          f'{error_m.median():.4f} m / {error_deg.median():.3f} deg')
    print('| regressor | images that taught: median m / deg | images that score: median m / deg | p95 m / deg | kept | training s |\n|'
          + '---|' * 6)
    views = [load_views(frames, bundle.manifest.camera) for frames in (taught, scored)]
    _print_row(bundle, bundle.regressor, 'before', views, '-', '-')
    for method in options.methods or METHODS:
        work_dir, start_s = options.work / method, time.monotonic()
        work_dir.mkdir(exist_ok=True)
        found = adaptation(bundle, answers, believed, method, None, work_dir, 0, options.device)
        _print_row(bundle, found.regressor, method, views, 'yes' if found.good else 'no', f'{time.monotonic() - start_s:.0f}')


def _scores(bundle: MapBundle, regressor: nn.Module, views: Views) -> PoseScores:
    device = next(regressor.parameters()).device
    return score_poses(predict_poses(regressor, views.images, bundle.manifest.scene, device), views.T_map_cam)


def _print_row(bundle: MapBundle, regressor: nn.Module, name: str, views: list[Views], *facts: str) -> None:
    taught, scored = (_scores(bundle, regressor, each) for each in views)
    print(f'| {name} | {taught.median_m:.3f} / {taught.median_deg:.2f} | {scored.median_m:.3f} / {scored.median_deg:.2f} | '
          f'{scored.p95_m:.3f} / {scored.p95_deg:.2f} | {" | ".join(facts)} |', flush=True)
