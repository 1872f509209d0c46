"""`aprloc demo` and `aprloc play`: the real node over DDS beside the truth, as a table, a report and a verdict."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from aprloc_ros.catalogue import FILE_NAME, find_map
from aprloc_ros.command_line.drive import drive, judge
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.recordings.bag_images import BagImage, choose_topics, frame_name, read_images
from aprloc_ros.recordings.bags import BagFrame, write_bag
from aprloc_ros.recordings.playable import check_playable
from aprloc_ros.recordings.recording import open_recording
from aprloc_ros.recordings.truth import OURS, read_poses
from aprloc_ros.scoring.comparison import compare_views
from aprloc_ros.scoring.evaluation import (
    FrameRecord,
    agreement,
    mean_training_poses,
    score_poses,
    score_records,
    scores_table,
)
from aprloc_ros.scoring.figures import worst_records
from aprloc_ros.scoring.replay import ANSWERED, Robot, replay
from aprloc_ros.scoring.report import write_report


def run_demo(frames: Iterable[BagFrame], map_name: str, map_dir: Path | None, report_dir: Path, rate: float,
             say: Callable[[str], None] = print) -> bool:
    """Write the frames of a drive as a bag, play it through the node, report -> good or not."""
    find_map(map_name, map_dir)   # complain before the work, not after it
    with tempfile.TemporaryDirectory(prefix='aprloc_demo_') as scratch:
        bag = Path(scratch) / 'drive'
        count = write_bag(bag, frames)
        say(f'wrote {count} frames as a rosbag2')
        return run_play(bag, map_name, map_dir, report_dir, rate, say)


def run_play(bag: Path, map_name: str, map_dir: Path | None, report_dir: Path, rate: float,
             say: Callable[[str], None] = print, domain: int | None = None) -> bool:
    """Play a bag with `truth` through the node, print the table and the verdict, write the report -> good or not.

    domain: of ROS; None: one that nobody on this machine uses.
    """
    check_playable(bag)
    directory = find_map(map_name, map_dir)
    manifest = read_manifest(directory / FILE_NAME)
    truth = read_poses(bag, OURS)
    report_dir.mkdir(parents=True, exist_ok=True)
    say(f'playing {len(truth)} frames over DDS into the relocalize node, map {directory}')
    result = drive(bag, truth, directory, rate, report_dir / 'node.log', say, domain)
    ours = score_records(result.records)
    T_truth = torch.stack([record.T_truth for record in result.records])
    scores = {f'node, map {map_name}': ours,
              'mean pose of the drive': score_poses(mean_training_poses(T_truth, len(T_truth)), T_truth)}
    verdict = replace(judge(result, *scores.values(), manifest), remark=result.slowness(rate))
    images, bundle = worst_images(bag, list(truth), result.records), load_map(directory)
    page = write_report(report_dir, f'Map {map_name}: the node over DDS', result.records, scores, result.facts(),
                        verdict, lambda record: compare_views(bundle, images[record.name].pixels(),
                                                              images[record.name].camera(), record.T_estimate))
    say('\n' + scores_table(scores) + '\n')
    for name, value in {**result.facts(), 'these frames replayed without ROS': _beside(bag, bundle, result.records)}.items():
        say(f'{name}: {value}')
    say(f'\n{verdict.text()}\nreport: {page}')
    return verdict.good


def _beside(bag: Path, bundle: MapBundle, records: list[FrameRecord]) -> str:
    """How far a replay of the frames that the node answered, without ROS and in no hurry, is from its answers."""
    localizer = Localizer(bundle)
    stamps_s = {record.stamp_s for record in records}
    with open_recording(bag) as recording:
        images = (image for image in read_images(recording, choose_topics(recording, 'image', 'camera_info'))
                  if image.stamp_ns / 1e9 in stamps_s)
        offline = {frame.stamp_ns / 1e9: frame.estimate.T_map_cam for frame in replay(images, localizer, Robot())
                   if frame.outcome == ANSWERED}
    both = [record for record in records if record.stamp_s in offline]
    apart = agreement(both, [replace(record, T_estimate=offline[record.stamp_s]) for record in both])
    return (f'{apart.frames} answered again, {apart.same} of them with the same pose, the others at most '
            f'{1e3 * apart.max_m:.3f} mm and {apart.max_deg:.4f} deg apart')


def worst_images(bag: Path, stamps_ns: list[int], records: list[FrameRecord]) -> dict[str, BagImage]:
    """Images of the worst records, by their names: one pass over the bag, few in memory. stamps_ns: of all frames."""
    worst = {record.name for record in worst_records(records)}
    names = {stamp_ns: name for index, stamp_ns in enumerate(stamps_ns) if (name := frame_name(index)) in worst}
    with open_recording(bag) as recording:
        images = read_images(recording, choose_topics(recording, 'image', 'camera_info'))
        return {names[image.stamp_ns]: image for image in images if image.stamp_ns in names}
