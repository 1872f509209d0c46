"""The last stage of a build: choose the points, calibrate the refiners, score the map and write it."""

import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import aprloc_ros
from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import BuildFacts, DescriptorSpec, Manifest, ModelSpec, Provenance
from aprloc_ros.map_bundle import MapBundle, load_map, save_map
from aprloc_ros.refiners import FAST_REFINERS
from aprloc_ros.training.field import field_arguments
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.points import build_points
from aprloc_ros.training.quality import field_psnr_db
from aprloc_ros.training.refiner_calibration import with_refiners
from aprloc_ros.training.regressor import predict_poses

if TYPE_CHECKING:
    from aprloc_ros.training.build_map import Build

_PSNR_VIEWS = 20


def write_map(build: 'Build', target: Path) -> None:
    """Write the map of a build whose networks are trained. Only one process may call this."""
    device = str(build.fabric.device)
    points = build_points(build.extractor, build.descriptor_views(build.fit), build.descriptor_points,
                          build.preset.map_points)
    networks = build.regressor, build.feature_field, build.extractor, points
    # Calibrated with the weights as they are stored and loaded again.
    draft = save_map(build.work_dir / 'draft', _manifest(build), *networks)
    bundle = with_refiners(load_map(draft, device), FAST_REFINERS, build.descriptor_views(build.calibration),
                           build.request.seed, device, build.say)
    manifest = replace(bundle.manifest, accuracy=_accuracy(build, bundle), build=_facts(build))
    curves = {path.name: path.read_bytes() for path in sorted(build.work_dir.glob('*.csv'))}
    save_map(target, manifest, *networks, curves)


def _manifest(build: 'Build') -> Manifest:
    config, capture = build.preset.regressor, build.request.capture
    calibration = build.views(build.calibration, config.short_side)
    predicted = predict_poses(build.regressor, calibration.images, build.scene, build.fabric.device)
    return Manifest(
        name=build.request.name, camera=calibration.camera, scene=build.scene,
        regressor=ModelSpec(config.kind, dict(config.arguments)),
        field=ModelSpec(build.preset.field.kind, field_arguments(build.preset.field, build.scene)),
        data=Provenance(capture.format, capture.name, len(capture.train), len(capture.test),
                        build.request.content_hash, build.request.seed, aprloc_ros.__version__),
        accuracy={}, covariance=prior_covariance(residuals(predicted, calibration.T_map_cam)), build=_facts(build),
        history=_history(build.work_dir),
        descriptors=DescriptorSpec(ModelSpec('nre', dict(build.preset.descriptors.arguments)), build.descriptor_camera))


def _accuracy(build: 'Build', bundle: MapBundle) -> dict[str, float]:
    """Of the map and of its regressor on the test frames, or on the calibration frames of a capture without any."""
    frames = build.request.capture.test or build.calibration
    T_truth = torch.stack([frame.T_map_cam for frame in frames])
    localizer = Localizer(bundle, str(build.fabric.device))
    estimates = [localizer.localize(frame.read_image(), frame.camera) for frame in frames]
    chosen = torch.linspace(0, len(frames) - 1, min(_PSNR_VIEWS, len(frames))).round().long()
    psnr = field_psnr_db(build.feature_field, build.scene, build.views(frames, build.preset.field.short_side)[chosen])
    return {**_quantiles(torch.stack([estimate.T_map_cam for estimate in estimates]), T_truth),
            **_quantiles(torch.stack([estimate.T_prior for estimate in estimates]), T_truth, 'regressor_'),
            'psnr_db': psnr, 'frames': float(len(frames))}


def _quantiles(T: Tensor, T_truth: Tensor, prefix: str = '') -> dict[str, float]:
    error_m, error_deg = pose_errors(T, T_truth)
    return {f'{prefix}{what}_{unit}': error.quantile(share).item() for what, share in (('median', 0.5), ('p95', 0.95))
            for unit, error in (('m', error_m), ('deg', error_deg))}


def _history(work_dir: Path) -> dict[str, list[list[float]]]:
    """How the calibration frames' scores moved: seconds and dB of the field; seconds, m and deg of the regressor."""
    wanted = {'field': ('validation_psnr_db',), 'regressor': ('validation_m', 'validation_deg')}
    history = {}
    for stage, keys in wanted.items():
        rows = torch.load(work_dir / f'{stage}.ckpt', map_location='cpu', weights_only=True)['rows']
        history[stage] = [[row['seconds'], *(row[key] for key in keys)] for row in rows if keys[0] in row]
    return history


def _facts(build: 'Build') -> BuildFacts:
    return BuildFacts(build.request.preset_name, round(build.clock.seconds, 1),
                      round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                      describe_hardware(build.fabric.device), torch.__version__)
