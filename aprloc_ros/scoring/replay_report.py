"""`aprloc replay`: a recording through the localizer, and all that it leaves behind in a directory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.recordings.bag_images import BagImage, ImageTopics, camera_frame, choose_topics, read_images
from aprloc_ros.recordings.odometry_topic import find_odometry
from aprloc_ros.recordings.recording import Recording, open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.tf_tree import TfTree
from aprloc_ros.recordings.truth import TruthOptions, find_truth, read_tf
from aprloc_ros.scoring.comparison import compare_views
from aprloc_ros.scoring.estimates import (
    BAG,
    CSV_FILE,
    TUM_FILE,
    write_csv,
    write_estimates_bag,
    write_tum_file,
)
from aprloc_ros.scoring.evaluation import FrameRecord, scores_table
from aprloc_ros.scoring.figures import path_figure, styled, worst_records
from aprloc_ros.scoring.rejections import rejected_figure, rejected_frames, rejection_verdict, what_to_do
from aprloc_ros.scoring.replay import ANSWERED, ReplayedFrame, Robot, replay
from aprloc_ros.scoring.replay_scores import ReplayScores, score_replay, true_records
from aprloc_ros.scoring.report import record_figures, write_page
from aprloc_ros.scoring.truth_check import doubt

RESULTS_FILE = 'results.json'
_SAY_EVERY = 50   # frames
_CAMERA_FRAME = 'camera'   # of images that name no frame


@dataclass(frozen=True)
class ReplayOptions:
    """What to take from the recording where it leaves a choice, and how fast."""

    image: str | None = None
    camera_info: str | None = None
    rectified: bool = False         # declared of the images
    odom: str | None = None
    truth: TruthOptions = field(default_factory=TruthOptions)
    base_frame: str = 'base_link'   # whose pose is tracked and written into the bag, if TF connects it with the camera
    realtime: bool = False


def run_replay(bag: Path, bundle: MapBundle, localizer: Localizer, out: Path, options: ReplayOptions,
               say: Callable[[str], None] = print) -> ReplayScores:
    """Replay a bag, write estimates, scores and the page into `out`, print the table.

    Raises AprlocError for a bag, topic or truth that is not there or leaves a choice, before anything is localised.
    """
    if bag.resolve() in (out.resolve(), (out / BAG).resolve()):   # a build would take the estimates for truth
        raise AprlocError(f'--out {out} would write into the bag {bag}; name another folder')
    with open_recording(bag) as recording:
        topics = choose_topics(recording, options.image, options.camera_info, rectified=options.rectified)
        frame_id, count = camera_frame(recording, topics) or _CAMERA_FRAME, recording.count(topics.image)
        tree, map_frame = read_tf(recording), bundle.manifest.frame_id
        truth = find_truth(recording, tree, options.truth, map_frame, frame_id, count)
        robot = _robot(recording, tree, options, frame_id, map_frame)
        say(f'{count} images of {topics.image}, camera from {topics.camera_info or "the map"}, poses of {robot.frame}, '
            f'odometry from {robot.odometry}, truth from {truth.source if truth else "nowhere: nothing will be scored"}')
        out.mkdir(parents=True, exist_ok=True)
        frames = _localise(recording, topics, localizer, robot, options.realtime, say)
        records = true_records(frames, truth)
        recording.note(frames[-1].remark if frames else '')
        recording.note(doubt(list(records.values()), bundle.manifest))
        scores = score_replay(frames, records, f'replay, map {bundle.manifest.name}')
        write_tum_file(out / TUM_FILE, frames)
        unit = bundle.manifest.frame
        write_csv(out / CSV_FILE, frames, records, unit)
        write_estimates_bag(out / BAG, frames, robot, map_frame, unit)
        results = {'map': bundle.manifest.name, 'frame': bundle.manifest.scene.fingerprint, 'bag': str(bag), 'truth': truth and truth.source,
                   'realtime': options.realtime, **scores.to_dict()}
        (out / RESULTS_FILE).write_text(json.dumps(results, indent=2) + '\n')
        page = _write_page(out, bag, recording, topics, bundle, frames, records, scores)
    _print(scores, frames, page, recording.notes, say)
    return scores


def _localise(recording: Recording, topics: ImageTopics, localizer: Localizer, robot: Robot, realtime: bool,
              say: Callable[[str], None]) -> list[ReplayedFrame]:
    """Raises AprlocError as soon as too many of the messages cannot be read."""
    frames, count = [], recording.count(topics.image)
    skipped = Skipped(f'images of {topics.image}', count)
    for frame in replay(read_images(recording, topics), localizer, robot, realtime):
        frames.append(frame)
        if not frame.is_readable:
            skipped.add(frame.reason, f'{frame.name}: {frame.text}')
            skipped.summary()
        if len(frames) % _SAY_EVERY == 0:
            say(f'  {len(frames)} of {count} frames')
    return sorted(frames, key=lambda frame: frame.index)


def _robot(recording: Recording, tree: TfTree, options: ReplayOptions, frame_id: str, map_frame: str) -> Robot:
    """The base, where TF connects it with the camera, and its odometry, where there is some; else the camera itself."""
    base = options.base_frame.strip('/')
    if not tree.connects(base, frame_id):
        if options.odom:
            raise AprlocError(f'{options.odom} tells how {base!r} moves, but no /tf_static leads from there to the image '
                              f'frame {frame_id!r}; record /tf_static, or leave --odom out')
        return Robot(frame_id)

    def T_base_cam(stamp_ns: int) -> Tensor:
        stamp_s = torch.tensor([stamp_ns / 1e9], dtype=torch.float64)
        T, known = tree.lookup(base, frame_id, stamp_s, options.truth.max_gap_s)
        if not known:
            raise AprlocError(f'TF does not say where {frame_id!r} was on {base!r} at {stamp_s.item():.6f} s')
        return T[0]

    odometry = find_odometry(recording, options.odom, base, map_frame, options.truth.source)
    return Robot(base, T_base_cam, odometry.at, odometry.topic, odometry.beginnings) if odometry else Robot(base, T_base_cam)


def _write_page(out: Path, bag: Path, recording: Recording, topics: ImageTopics, bundle: MapBundle,
                frames: Sequence[ReplayedFrame], records: dict[int, FrameRecord], scores: ReplayScores) -> Path:
    figures = {}
    answered = [frame.estimate.T_map_cam for frame in frames if frame.outcome == ANSWERED]
    if answered and not records:
        with styled():
            figures['trajectory.png'] = ('Top view: the estimates', path_figure(torch.stack(answered)))
    if records:
        images = _images(recording, topics, worst_records(list(records.values())))

        def views(record: FrameRecord):
            image = images[record.name]
            return compare_views(bundle, image.pixels(), image.camera(), record.T_estimate)

        refused_s = [frame.stamp_ns / 1e9 for frame in frames if frame.outcome != ANSWERED]
        figures = record_figures(list(records.values()), views, refused_s)
    facts, verdict = scores.facts(), None
    if not answered:
        facts, verdict = {**facts, **what_to_do(frames)}, rejection_verdict(frames)
        shown = rejected_frames(frames)
        with styled():
            sheet = rejected_figure(shown, _images(recording, topics, shown), bundle)
        figures = {'rejected.png': ('The least believed frames beside what the map expected', sheet)} if sheet else {}
    return write_page(out, f'Map {bundle.manifest.name}: replay of {bag.name}', scores.poses, facts, figures,
                      (RESULTS_FILE, CSV_FILE, TUM_FILE), verdict)


def _images(recording: Recording, topics: ImageTopics, chosen: Sequence[FrameRecord | ReplayedFrame]) -> dict[str, BagImage]:
    """The images of these frames by name: one more pass, few in memory."""
    names = {frame.name for frame in chosen}
    return {image.name: image for image in read_images(recording, topics) if image.name in names}


def _print(scores: ReplayScores, frames: Sequence[ReplayedFrame], page: Path, notes: list[str],
           say: Callable[[str], None]) -> None:
    if scores.poses:
        say('\n' + scores_table(scores.poses) + '\n')
    for name, value in scores.facts().items():
        say(f'{name}: {value}')
    rejections = {frame.reason: frame for frame in frames if frame.text}
    for reason, frame in sorted(rejections.items()):
        say(f'{frame.name} was rejected for {reason}: {frame.text}')
    for note in notes:
        say(note)
    say(f'report: {page}')
    if not scores.answered:
        for name, advice in what_to_do(frames).items():
            say(f'{name}: {advice}')
        raise AprlocError(f'none of the {scores.frames} frames was answered; {page} shows why')
