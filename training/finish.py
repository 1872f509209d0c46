"""The last stage of a build: choose the points, calibrate the refiners, score the map and write it."""

import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import aprloc_ros
from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import BuildFacts, DescriptorSpec, Drive, Manifest, ModelSpec, Provenance
from aprloc_ros.map_bundle import MapBundle, load_map, save_map
from aprloc_ros.scoring.evaluation import FrameRecord, evaluate_map, measure_records, score_records
from aprloc_ros.scoring.uncertainty_table import uncertainty_table
from aprloc_ros.training.calibration.questions import questions
from aprloc_ros.training.calibration.refiner_calibration import calibrate_refiners, with_refiners
from aprloc_ros.training.datasets.capture import Capture
from aprloc_ros.training.datasets.drives import by_drive
from aprloc_ros.training.datasets.frame_file import read_frame
from aprloc_ros.training.datasets.sizes import main_frames
from aprloc_ros.training.drive_scores import describe_drive, drive_accuracy
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import load_views
from aprloc_ros.training.request import content_hash
from aprloc_ros.training.stages.features import feature_cosine
from aprloc_ros.training.stages.field import field_arguments
from aprloc_ros.training.stages.patches import build_patches
from aprloc_ros.training.stages.points import build_points
from aprloc_ros.training.stages.quality import field_psnr_db
from aprloc_ros.training.stages.regressor import predict_poses

if TYPE_CHECKING:
    from aprloc_ros.training.build_map import Build

_PSNR_VIEWS = 20
_FEATURE_VIEWS = 10


def write_map(build: 'Build', target: Path) -> None:
    """Write the map of a build whose networks are trained. Only one process may call this."""
    device = str(build.fabric.device)
    points = build_points(build.extractor, build.descriptor_views(build.fit), build.descriptor_points,
                          build.preset.map_points)
    points = replace(points, patches=build_patches(points, build.fit, build.preset.map_patches))
    networks = build.regressor, build.feature_field, build.extractor, points
    # Calibrated with the weights as they are stored and loaded again.
    draft = save_map(build.work_dir / 'draft', _manifest(build), *networks)
    asked = questions(build.calibration, build.fit, build.descriptor_camera)
    bundle = load_map(draft, device)
    bundle = with_refiners(bundle, calibrate_refiners(bundle, asked, build.request.seed, device, build.say))
    _say_how_features_are(build)
    _say_what_storing_costs(build, bundle, networks)
    accuracy, drives = _accuracy(build, bundle)
    manifest = replace(bundle.manifest, accuracy=accuracy, build=_facts(build), data=replace(bundle.manifest.data, drives=drives))
    curves = {path.name: path.read_bytes() for path in sorted(build.work_dir.glob('*.csv'))}
    save_map(target, manifest, *networks, curves)


def _manifest(build: 'Build') -> Manifest:
    config, capture = build.preset.regressor, build.request.capture
    calibration = load_views(build.calibration, build.regressor_camera)
    predicted = predict_poses(build.regressor, calibration.images, build.scene, build.fabric.device)
    return Manifest(
        name=build.request.name, camera=calibration.camera, scene=build.scene,
        regressor=ModelSpec(config.kind, build.regressor_arguments),
        field=ModelSpec(build.preset.field.kind, field_arguments(build.preset.field, build.scene)),
        data=Provenance(capture.format, capture.name, len(capture.train), len(capture.test),
                        build.request.content_hash, build.request.seed, aprloc_ros.__version__),
        accuracy={}, covariance=prior_covariance(residuals(predicted, calibration.T_map_cam)), build=_facts(build),
        history=_history(build.work_dir),
        descriptors=DescriptorSpec(ModelSpec('nre', dict(build.preset.descriptors.arguments)), build.descriptor_camera),
        lenses=build.lenses, taken_by=main_frames(build.fit)[0].camera, frame=read_frame(capture.root))


def _say_how_features_are(build: 'Build') -> None:
    """Rendered features against those that the extractor sees, on calibration frames: refiners follow the former."""
    if not build.feature_field.feature_channels:
        return
    few = build.calibration[::max(1, len(build.calibration) // _FEATURE_VIEWS)]
    views, targets = build.feature_views(few)
    cosine = feature_cosine(build.feature_field, build.scene, views, targets)
    build.say(f'features: cosine {cosine:.2f} with what {len(few)} calibration frames show')


def _say_what_storing_costs(build: 'Build', bundle: MapBundle, networks: tuple) -> None:
    """Weights in half precision and descriptors in eight bits, against what was trained, on the calibration frames."""
    regressor, field, extractor, points = networks
    trained = replace(bundle, regressor=regressor, field=field, extractor=extractor, points=points)
    for name, each in (('as trained', trained), ('as stored', bundle)):
        s = score_records(evaluate_map(Localizer(each, str(build.fabric.device)), build.calibration))
        build.say(f'{name}: {100 * s.median_m:.3f} cm / {s.median_deg:.4f} deg on the calibration frames')


def _accuracy(build: 'Build', bundle: MapBundle) -> tuple[dict[str, float], tuple[Drive, ...]]:
    """Of the map and of its regressor on the test frames, or on the calibration frames of a drive without any; then of the
    map on those of each drive, where there are several.
    """
    capture = build.request.capture
    unseen = [(drive, test or calibration) for (drive, test), (_, calibration) in
              zip(by_drive(capture, build.test), by_drive(capture, build.calibration))]
    frames = sum((own for _, own in unseen), ())
    records = evaluate_map(Localizer(bundle, str(build.fabric.device)), frames)
    regressor = evaluate_map(Localizer(bundle, str(build.fabric.device), 'none'), frames)
    if any(record.status != 'rejected' for record in records):
        build.say(uncertainty_table({f'{bundle.manifest.refiner} on held-out frames': measure_records(records)}))
    psnr = field_psnr_db(build.feature_field, build.scene, build.views(frames, build.preset.field.short_side)[evenly(len(frames), _PSNR_VIEWS)])
    whole = {**_quantiles(records), **_quantiles(regressor, 'regressor_'), 'psnr_db': psnr, 'frames': float(len(frames))}
    record_of = {record.name: record for record in records}
    return whole, tuple(_drive(drive, [record_of[frame.name] for frame in own], build.say)
                        for drive, own in unseen if capture.drives)


def _drive(drive: Capture, records: list[FrameRecord], say) -> Drive:
    """Of several drives one, with its score."""
    accuracy = drive_accuracy(records)
    say(f'{drive.name}: {describe_drive(accuracy)}')
    return Drive(drive.format, drive.name, len(drive.train), len(drive.test), content_hash(drive), accuracy)


def _quantiles(records: list[FrameRecord], prefix: str = '') -> dict[str, float]:
    scores = score_records(records)
    return {f'{prefix}{what}': getattr(scores, what) for what in ('median_m', 'median_deg', 'p95_m', 'p95_deg')}


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
