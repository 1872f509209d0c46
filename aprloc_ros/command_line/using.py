"""What the commands of `aprloc` do that use a map: options in, exit code out. Each loads what it needs, so that help is quick."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from aprloc_ros.command_line.outputs import PROGRESS_EVERY, say, to_file, to_folder
from aprloc_ros.errors import AprlocError

VIEW_RAYS = 60_000


def demo(options: argparse.Namespace) -> int:
    from aprloc_ros.command_line.demo import run_demo

    return 0 if run_demo(_held_out_drive(), options.map, options.map_dir, to_folder(options.report), options.rate, say) else 1


def _held_out_drive():
    """The drive through the demo place that its maps are not trained on: yields bags.BagFrame as it is rendered."""
    import torch

    from aprloc_ros.recordings.bags import BagFrame
    from aprloc_ros.training.place.capture import CAMERA, photograph
    from aprloc_ros.training.place.court import build_court
    from aprloc_ros.training.place.drive import COURSES
    from aprloc_ros.training.place.raycast import Renderer

    course = next(course for course in COURSES if course.split == 'test')
    say(f'rendering {course.frames} frames of a drive that training never saw')
    for index, (image, _, T_map_cam, stamp_s) in enumerate(photograph(Renderer(build_court()), course)):
        if (index + 1) % PROGRESS_EVERY == 0:
            say(f'  {index + 1} of {course.frames} frames rendered')
        yield BagFrame(round(stamp_s * 1e9), image, CAMERA, torch.from_numpy(T_map_cam))


def play(options: argparse.Namespace) -> int:
    from aprloc_ros.command_line.demo import run_play

    return 0 if run_play(options.bag, options.map, options.map_dir, to_folder(options.report), options.rate, say,
                         options.domain) else 1


def localize(options: argparse.Namespace) -> int:
    from aprloc_ros.geometry import rotation_to_quaternion
    from aprloc_ros.placement.map_frame import METRE
    from aprloc_ros.recordings.decoding.encoded_images import read_image

    pixels = read_image(options.image)
    camera = read_camera(options.camera, pixels.shape[1], pixels.shape[0]) if options.camera else None
    options.map = _map_of(pixels, options)
    localizer = _localizer(options)
    try:
        estimate, frame = localizer.localize(pixels, camera), localizer.manifest.frame
    except AprlocError as error:
        raise AprlocError(f'{error}{_if_turned(options.image)}') from None
    std = (estimate.covariance + frame.scale_covariance(estimate.T_map_cam)).diagonal().sqrt()
    length = 'm' if frame.unit == METRE else 'units, not metres'
    for name, unit, values in (('position', length, estimate.T_map_cam[:3, 3]),
                               ('quaternion wxyz', '', rotation_to_quaternion(estimate.T_map_cam[:3, :3])),
                               ('std of position', f'{length}, camera axes', std[:3]),
                               ('std of rotation', 'deg, camera axes', std[3:].rad2deg())):
        print(f'{name:16}', *(f'{value:10.4f}' for value in values.tolist()), f' {unit}')
    print(f'{"status":16} {estimate.status}, score {estimate.score:.3f}, {estimate.timings_ms["total"]:.1f} ms'
          + (f'; {estimate.reason}: {estimate.text}{_if_turned(options.image)}' if estimate.text else ''))
    return 1 if estimate.status == 'rejected' else 0


def _if_turned(image: Path) -> str:
    """What else may be wrong with an image file that gets no pose."""
    from aprloc_ros.recordings.decoding.encoded_images import is_stored_turned

    return '; its EXIF asks viewers to turn it, and pixels are taken as they are stored: turn the file' if is_stored_turned(image) else ''


def _map_of(pixels, options: argparse.Namespace) -> str:
    """The map that was asked for, or the one that the atlas of that name finds the image in."""
    from aprloc_ros.catalogue import FILE_NAME, find_atlas, find_map

    directory = find_atlas(options.map, options.map_dir)
    if directory is None:
        return options.map
    from aprloc_ros.atlas import load_atlas
    from aprloc_ros.manifest import read_manifest

    atlas = load_atlas(directory, options.device)
    likeliest = atlas.which(pixels)[0]
    atlas.check_named(likeliest.map, read_manifest(find_map(likeliest.map, options.map_dir) / FILE_NAME))
    print(f'{"map":16} {likeliest.map}, probability {likeliest.probability:.3f}')
    return likeliest.map


def evaluate(options: argparse.Namespace) -> int:
    if options.poses:
        return _evaluate_poses(options.poses)
    if not (options.map and options.data):
        raise AprlocError('evaluate needs a map NAME and --data PATH, or --poses PATH')
    return _evaluate_map(options, options.report and to_folder(options.report))


def _evaluate_map(options: argparse.Namespace, report: Path | None) -> int:
    from aprloc_ros.scoring import evaluation
    from aprloc_ros.scoring.truth_check import doubt
    from aprloc_ros.scoring.uncertainty_table import uncertainty_table
    from aprloc_ros.training.datasets import read_capture

    localizer = _localizer(options)
    capture = read_capture(options.data)
    for note in capture.notes:
        say(note)
    records = evaluation.evaluate_map(localizer, capture.test, _progress(len(capture.test)))
    contradiction = doubt(records, localizer.manifest)
    if contradiction:
        say(contradiction)
    scores = evaluation.score_with_baselines(records, [f.T_map_cam for f in capture.train], f'map {options.map}')
    p50, p95 = evaluation.latency_p50_p95_ms(records)
    facts = {'localize() p50 / p95': f'{p50:.1f} / {p95:.1f} ms on {localizer.device_name}'}
    statuses = Counter(record.status for record in records)
    facts['status'] = ', '.join(f'{count} {status}' for status, count in statuses.most_common())
    print(evaluation.scores_table(scores), *(f'{name}: {value}' for name, value in facts.items()), sep='\n')
    if statuses['rejected'] < len(records):
        print(uncertainty_table({options.map: evaluation.measure_records(records)}))
    if report:
        from aprloc_ros.scoring.report import write_report

        images = {frame.name: frame for frame in capture.test}
        page = write_report(report, f'Map {options.map}, held-out images of {capture.name}', records, scores,
                            facts, views=lambda record: {'query': images[record.name].read_image()})
        print(f'report: {page}')
    return 0


def _evaluate_poses(path: Path) -> int:
    from aprloc_ros.scoring.evaluation import scores_table
    from aprloc_ros.scoring.predictions import medians_tables, score_folder

    scenes = score_folder(path)
    print(medians_tables(scenes))
    if len(scenes) == 1:
        print(f'\n{scores_table(scenes.popitem()[1])}')
    return 0


def replay(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.localizer import Localizer
    from aprloc_ros.map_bundle import load_map
    from aprloc_ros.recordings.truth import TruthOptions
    from aprloc_ros.refinement.refined import PACED, UNHURRIED
    from aprloc_ros.scoring.replay_report import ReplayOptions, run_replay

    bundle = load_map(find_map(options.map, options.map_dir), options.device)
    # A time budget would let the machine's speed decide on the poses; only the pace of the recording needs one.
    localizer = Localizer(bundle, options.device, options.refiner, PACED if options.realtime else UNHURRIED)
    if options.realtime:
        localizer.warm_up()
    run_replay(options.bag, bundle, localizer, to_folder(options.out), ReplayOptions(
        options.image, options.camera_info, options.rectified, options.odom, TruthOptions(options.truth, options.truth_frame, options.max_gap_s),
        options.base_frame, options.realtime), say)
    return 0


def view(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.map_bundle import load_map
    from aprloc_ros.viewing.cloud import map_cloud
    from aprloc_ros.viewing.viewer import frame_of, map_of, read_track, write_page

    page = to_file(options.out)
    track = read_track(options.replay) if options.replay else None
    bundle = load_map(find_map(options.map, options.map_dir), options.device)
    if bundle.points is None:
        raise AprlocError(f'the map {options.map} keeps no poses of its views; rebuild it with aprloc build')
    manifest, T_map_cam = bundle.manifest, bundle.points.view_poses
    other = map_of(options.replay) if track else ''
    if other not in ('', manifest.name):
        say(f'WARNING: {options.replay} was made with the map {other}: its poses are drawn as if they were of the frame of {manifest.name}')
    elif track and frame_of(options.replay) not in ('', manifest.scene.fingerprint):
        say(f'WARNING: {options.replay} was made before the map {manifest.name} was aligned or built anew: its poses are of the frame of then; '
            'replay the recording again')
    cloud = map_cloud(bundle.field, manifest.scene, manifest.camera, T_map_cam, rays=VIEW_RAYS)
    print(write_page(page, f'Map {manifest.name}', cloud, manifest.camera, T_map_cam, track))
    return 0


def maps(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import maps_table

    print(maps_table(options.map_dir))
    return 0


def read_camera(text: str, width: int, height: int):
    """'fx,fy,cx,cy' in pixels -> a pinhole Camera of that size; or the name of a calibration file of ROS, of any size."""
    from aprloc_ros.camera import Camera, may_have_taken
    from aprloc_ros.intrinsics import check_intrinsics
    from aprloc_ros.recordings.camera_info import read_camera_yaml

    if Path(text).suffix in ('.yaml', '.yml'):
        camera = read_camera_yaml(Path(text))
        if not may_have_taken(camera, width, height):
            raise AprlocError(f'--camera {text} is of {camera.width}x{camera.height}, the image {width}x{height}, of another aspect; '
                              f'give the calibration of the mode that it was taken in')
        return camera.resized(width, height)
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(','))
    except ValueError:
        raise AprlocError(f'--camera {text!r} must be four numbers fx,fy,cx,cy in pixels, or a camera.yaml of ROS') from None
    camera = Camera(width, height, fx, fy, cx, cy)
    check_intrinsics(camera, '--camera')
    return camera


def _localizer(options: argparse.Namespace):
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.localizer import Localizer
    from aprloc_ros.map_bundle import load_map

    return Localizer(load_map(find_map(options.map, options.map_dir), options.device), options.device, options.refiner)


def _progress(total: int):
    def show(index: int, _record) -> None:
        if (index + 1) % PROGRESS_EVERY == 0 or index + 1 == total:
            print(f'{index + 1} of {total} frames', file=sys.stderr, flush=True)

    return show
