"""What the commands of `aprloc` do that make captures and maps, and measure them; modules load when one needs them."""

import argparse

from aprloc_ros.command_line.outputs import PROGRESS_EVERY, say, to_folder
from aprloc_ros.errors import AprlocError, typed


def pose(options: argparse.Namespace) -> int:
    from aprloc_ros.training.posing.metres.choice import Wishes
    from aprloc_ros.training.posing.pose import pose as pose_images

    wishes = Wishes(options.tag_side, options.distance and _distance(*options.distance), options.origin)
    capture = pose_images(options.source, options.out, options.frames, options.seed, wishes, say)
    print(f'report: {capture / "report" / "index.html"}')
    print(f'{capture}: ready; aprloc build NAME --data {typed(capture)}')
    return 0


def _distance(first: str, second: str, metres: str) -> tuple[str, str, float]:
    try:
        return first, second, float(metres)
    except ValueError:
        raise AprlocError(f'--distance {first} {second} {metres}: the third must be a number of metres') from None


def build(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import describe_map
    from aprloc_ros.training.build_map import build as build_map

    directory = build_map(**{key: value for key, value in vars(options).items() if key != 'run'})
    facts = describe_map(directory) if options.until == 'map' else {'ready': 'to go on'}
    print(f'{directory}: {", ".join(f"{name} {value}" for name, value in facts.items())}')
    return 0


def extend(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.training.extend_map import extend_map

    directory = find_map(options.name, options.map_dir)
    extend_map(directory, options.data, options.device, say)
    print(f'{directory}: extended')
    return 0


def calibrate(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.training.calibrate_map import calibrate_map

    calibrate_map(find_map(options.name, options.map_dir), options.data, device=options.device, say=say)
    return 0


def adapt(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.training.adapt_map import adapt_map

    directory = find_map(options.name, options.map_dir)
    adapt_map(directory, options.data, options.method, options.check, device=options.device, say=say)
    print(f'{directory}: adapted')
    return 0


def align(options: argparse.Namespace) -> int:
    from aprloc_ros.catalogue import find_map
    from aprloc_ros.training.align_map import align_map

    directory = find_map(options.name, options.map_dir)
    align_map(directory, options.to, options.data, options.with_scale, options.device, say)
    print(f'{directory}: aligned')
    return 0


def atlas(options: argparse.Namespace) -> int:
    from aprloc_ros.training.make_atlas import make_atlas, parse_places

    directory = make_atlas(options.name, parse_places(options.places), options.map_dir, options.device, say=say)
    print(f'{directory}: an atlas of {len(options.places)} maps')
    return 0


def bag(options: argparse.Namespace) -> int:
    from aprloc_ros.recordings.bags import capture_frames, write_bag
    from aprloc_ros.training.datasets import read_capture

    capture = read_capture(options.data)
    for note in capture.notes:
        say(note)
    count = write_bag(to_folder(options.out), capture_frames(capture.test, options.rate))
    print(f'wrote {count} frames to {options.out}')
    return 0


def masks(options: argparse.Namespace) -> int:
    from aprloc_ros.training.datasets import read_capture
    from aprloc_ros.training.images.masks import write_masks

    print(f'{write_masks(read_capture(options.data), options.model, options.device)} masks written')
    return 0


def benchmark(options: argparse.Namespace) -> int:
    from aprloc_ros.training.benchmarks.command import main as run

    return run([options.what, *options.rest]) or 0


def place(options: argparse.Namespace) -> int:
    from aprloc_ros.training.place import write_capture
    from aprloc_ros.training.place.days import find_day
    from aprloc_ros.training.place.drive import SECOND_DRIVE, day_course

    def show(done: int, total: int) -> None:
        if done % PROGRESS_EVERY == 0 or done == total:
            say(f'{done} of {total} frames rendered')

    if options.day:
        day = find_day(options.day)
        write_capture(options.directory, options.seed, show, [day_course(day)], day, options.height)
        print(f'wrote {options.directory}: a drive of its own, {day.name}')
        return 0
    write_capture(options.directory, options.seed, show, height=options.height)
    write_capture(options.directory / SECOND_DRIVE.name, options.seed, show, [SECOND_DRIVE], height=options.height)
    print(f'wrote {options.directory} and, to calibrate with, {options.directory / SECOND_DRIVE.name}')
    return 0
