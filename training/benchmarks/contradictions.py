"""`aprloc benchmark contradictions`: a capture made wrong in the usual ways; what a build says, and how soon."""

import time

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.checks.contradictions import CONTRADICTIONS, HARMLESS, with_focal_length, with_poses
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.parsing import in_order
from aprloc_ros.training.datasets.splits import calibration_split

_FOCAL_FACTORS = (0.98, 0.9, 0.7, 4.0)


def benchmark_contradictions(options):
    """What a build says of a capture whose poses or lens are made wrong, and after how many seconds of one core."""
    capture = read_capture(options.data)
    everything = in_order((*capture.train, *capture.test))
    fit = {frame.name for frame in calibration_split(capture.train, capture.name)[0]}
    print('| capture made wrong by | CPU s | stops | what it says |\n|---|---|---|---|')
    poses = {**HARMLESS, **{name: change for name, (change, _) in CONTRADICTIONS.items()}}
    for name, change in poses.items():
        _print_row(name, with_poses(everything, change), fit)
    for factor in _FOCAL_FACTORS:
        _print_row(f'focal length declared {factor:g} times', with_focal_length(everything, factor), fit)


def _print_row(name: str, taken: tuple[Frame, ...], fit: set[str]):
    start = time.process_time()
    try:
        text, stops = check_poses(tuple(frame for frame in taken if frame.name in fit), taken, {}).text, 'no'
    except AprlocError as error:
        text, stops = str(error), 'yes'
    print(f'| {name} | {time.process_time() - start:.0f} | {stops} | {text} |', flush=True)
