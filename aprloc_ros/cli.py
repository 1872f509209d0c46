"""`aprloc`: a parser and plain functions. Known errors print one line and exit with 1."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from aprloc_ros import __version__, commands, making
from aprloc_ros.errors import AprlocError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line -> exit code: 0 good, 1 a known error or poses that were not good, 130 interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        return options.run(options)
    except AprlocError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print('aprloc: interrupted', file=sys.stderr)
        return 130
    except BrokenPipeError:   # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 1
    except OSError as error:
        return _complain(f'{error.filename}: {error.strerror}' if error.filename else str(error))
    except ModuleNotFoundError as error:
        if (error.name or 'aprloc_ros').startswith('aprloc_ros'):
            raise
        return _complain(f'the module {error.name} is missing; install aprloc_ros with its extras eval, train and ros, '
                         'or source your ROS distribution')


def _complain(text: str) -> int:
    print(f'aprloc: error: {text}', file=sys.stderr)
    return 1


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 100:
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to 100')
    return rate


def _domain(text: str) -> int:
    domain = int(text)
    if not 0 <= domain <= 232:
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to 232')
    return domain


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='aprloc', description='Where is the camera? Build maps from posed images and '
                                                                'localise single images in them.')
    parser.add_argument('--version', action='version', version=f'aprloc {__version__}')
    subparsers = parser.add_subparsers(metavar='COMMAND', required=True)
    _add_demo(subparsers)
    _add_pose(subparsers)
    _add_build(subparsers)
    _add_extend(subparsers)
    _add_calibrate(subparsers)
    _add_adapt(subparsers)
    _add_align(subparsers)
    _add_atlas(subparsers)
    _add_localize(subparsers)
    _add_evaluate(subparsers)
    _add_bag(subparsers)
    _add_play(subparsers)
    _add_replay(subparsers)
    _add_view(subparsers)
    _add_masks(subparsers)
    _add_maps(subparsers)
    _add_benchmark(subparsers)
    _add_place(subparsers)
    return parser


def _command(subparsers, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _map_dir(parser: argparse.ArgumentParser, text: str = 'directory of maps that is searched first') -> None:
    parser.add_argument('--map-dir', type=Path, metavar='DIR', help=text)


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='auto', help='auto (CUDA if present), cpu, cuda or cuda:N')


def _refiner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--refiner', default='default', metavar='NAME',
                        help="nre, align, nefes_pose, nefes_apr, photometric or none (default: the map's own)")


def _add_demo(subparsers) -> None:
    parser = _command(subparsers, 'demo', commands.demo,
                      'play an unseen drive of the demo place through the node and judge it')
    parser.add_argument('--map', default='demo', metavar='NAME', help='map of the demo place (default: demo)')
    parser.add_argument('--report', type=Path, default=Path('report'), metavar='DIR', help='default: report')
    parser.add_argument('--rate', type=_rate, default=1.0, help='times the pace of the drive (default: 1)')
    _map_dir(parser)


def _add_pose(subparsers) -> None:
    parser = _command(subparsers, 'pose', making.pose,
                      'find the poses of images, of a video or of a bag, and write them as a capture to build from')
    parser.add_argument('source', type=Path, metavar='SOURCE', help='a folder of images, a video, a ROS 2 or ROS 1 bag')
    parser.add_argument('--out', type=Path, required=True, metavar='CAPTURE', help='directory to write, as COLMAP does')
    parser.add_argument('--frames', type=int, metavar='N',
                        help='how many images to take (default: as many as the movement asks for)')
    parser.add_argument('--tag-side', type=float, metavar='M',
                        help='metres from black edge to black edge of the AprilTags or ArUco markers that are in view')
    parser.add_argument('--distance', nargs=3, metavar=('IMAGE', 'IMAGE', 'M'),
                        help='metres between the places of two images')
    parser.add_argument('--origin', metavar='IMAGE', help='whose place is the origin (default: of the first)')
    parser.add_argument('--seed', type=int, default=0, help='of every random choice (default: 0)')


def _add_build(subparsers) -> None:
    parser = _command(subparsers, 'build', making.build, 'build a map from posed images')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, action='append', metavar='PATH',
                        help='the capture; its format is recognised; again for each further drive in the same frame')
    parser.add_argument('--preset', choices=('small', 'paper'), default='small', help='default: small')
    parser.add_argument('--config', type=Path, metavar='FILE.yaml', help='values that replace those of the preset')
    parser.add_argument('--seed', type=int, default=0, help='of every random choice (default: 0)')
    parser.add_argument('--imagenet', metavar='PATH|imagenet', default='none',
                        help='backbone weights: a checkpoint file, or imagenet to download them (default: none)')
    parser.add_argument('--until', choices=('field', 'regressor', 'descriptors', 'features', 'map'), default='map',
                        help='stop after a stage; the same command without it goes on from there (default: map)')
    _map_dir(parser, 'where the map is written (default: ~/.ros/aprloc/maps)')
    _device(parser)


def _add_extend(subparsers) -> None:
    parser = _command(subparsers, 'extend', making.extend, 'teach a map a later drive, in other light or with things moved')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, action='append', metavar='PATH',
                        help='the drive; drives that taught the map before, if their images are there, may be given too: they '
                             'serve to check that nothing is forgotten')
    _map_dir(parser)
    _device(parser)


def _add_calibrate(subparsers) -> None:
    parser = _command(subparsers, 'calibrate', making.calibrate,
                      'fit gates and covariances of a map to a second drive through its place, or to its own; trains nothing')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH',
                        help='a capture with poses in the frame of the map, not the one it was built from')
    _map_dir(parser)
    _device(parser)


def _add_adapt(subparsers) -> None:
    parser = _command(subparsers, 'adapt', making.adapt,
                      "teach a map's regressor with a drive of its place without poses")
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH',
                        help='a folder of images, a video, a ROS 2 or ROS 1 bag; poses beside them are not read')
    parser.add_argument('--method', choices=('pseudo', 'photometric', 'feature', 'descriptors'), default='pseudo',
                        help="what teaches: the map's own believed answers (default), or its field by colours, by the regressor's "
                             'features or by descriptors')
    parser.add_argument('--check', type=Path, metavar='CAPTURE',
                        help='with poses in the frame of the map: decides whether the taught map is better (default: a fifth of '
                             "the drive's believed answers, which then do not teach)")
    _map_dir(parser)
    _device(parser)


def _add_align(subparsers) -> None:
    parser = _command(subparsers, 'align', making.align, "put a map into the frame of a robot's trajectory, without training")
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--to', required=True, metavar='TRAJECTORY', help='a TUM file, or a topic of poses or tf of the bag')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH',
                        help='bag or capture with the images of that trajectory; the map localises some of them')
    parser.add_argument('--with-scale', action='store_true', help="the map's unit becomes that of the trajectory too")
    _map_dir(parser)
    _device(parser)


def _add_atlas(subparsers) -> None:
    parser = _command(subparsers, 'atlas', making.atlas, 'learn in which of several maps an image was taken')
    parser.add_argument('name', metavar='NAME', help='of the atlas; aprloc localize takes it in place of a map')
    parser.add_argument('places', nargs='+', metavar='MAP=CAPTURE', help='a map and the capture that it was built from')
    _map_dir(parser, 'where the atlas is written, and maps are searched first (default: ~/.ros/aprloc/maps)')
    _device(parser)


def _add_localize(subparsers) -> None:
    parser = _command(subparsers, 'localize', commands.localize, 'localise one image in a map')
    parser.add_argument('image', type=Path, metavar='IMAGE')
    parser.add_argument('--map', required=True, metavar='NAME', help='of a map, or of an atlas, which says in which map the image is')
    parser.add_argument('--camera', metavar='fx,fy,cx,cy|FILE',
                        help="in pixels, or a camera.yaml of ROS; default: the map's own, scaled to the image")
    _refiner(parser)
    _map_dir(parser)
    _device(parser)


def _add_evaluate(subparsers) -> None:
    parser = _command(subparsers, 'evaluate', commands.evaluate,
                      "score a map on a capture's held-out images, or published poses")
    parser.add_argument('map', nargs='?', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, metavar='PATH', help='the capture')
    parser.add_argument('--poses', type=Path, metavar='PATH',
                        help='instead: an npz, or a folder of one for each scene, of arrays of N camera-to-world poses, '
                             'one named truth, the others predictions')
    parser.add_argument('--report', type=Path, metavar='DIR', help='write pictures and a page there')
    _refiner(parser)
    _map_dir(parser)
    _device(parser)


def _add_bag(subparsers) -> None:
    parser = _command(subparsers, 'bag', making.bag,
                      "write a capture's held-out images as a rosbag2 with their true poses")
    parser.add_argument('--data', type=Path, required=True, metavar='PATH', help='the capture')
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='directory to write')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ',
                        help='frames a second where the capture has no stamps (default: 10)')


def _add_play(subparsers) -> None:
    parser = _command(subparsers, 'play', commands.play, 'play a bag through the node over DDS and judge its poses')
    parser.add_argument('bag', type=Path, metavar='BAG', help='with image, camera_info and truth, as of aprloc bag')
    parser.add_argument('--map', required=True, metavar='NAME')
    parser.add_argument('--report', type=Path, default=Path('report'), metavar='DIR', help='default: report')
    parser.add_argument('--rate', type=_rate, default=1.0, help='times the pace of the bag (default: 1)')
    parser.add_argument('--domain', type=_domain, metavar='ID',
                        help='ROS domain to play in; it must be empty (default: one that nobody on this machine uses)')
    _map_dir(parser)


def _add_replay(subparsers) -> None:
    parser = _command(subparsers, 'replay', commands.replay,
                      'run a ROS 2 or ROS 1 bag through a map without ROS, and score it where truth is known')
    parser.add_argument('bag', type=Path, metavar='BAG', help='rosbag2 (mcap, sqlite3) or ROS 1 bag')
    parser.add_argument('--map', required=True, metavar='NAME')
    parser.add_argument('--out', type=Path, default=Path('replay'), metavar='DIR',
                        help='for index.html, results.json, estimates.csv, estimates.tum and the rosbag2 estimates '
                             '(default: replay)')
    parser.add_argument('--image', metavar='TOPIC', help='raw or compressed (default: the only one with colour images)')
    parser.add_argument('--camera-info', metavar='TOPIC',
                        help="default: the one beside the images, or the only one; without any, the map's camera")
    parser.add_argument('--odom', metavar='TOPIC',
                        help='nav_msgs/Odometry of the base frame (default: the only one, if any)')
    parser.add_argument('--truth', metavar='TOPIC|FILE|tf',
                        help='poses to score against: a topic of PoseStamped, PoseWithCovarianceStamped or Odometry, a '
                             "TUM file, or tf (default: the topic truth, else what there is of poses in the map's frame)")
    parser.add_argument('--truth-frame', metavar='FRAME',
                        help="whose pose the truth is (default: Odometry's child_frame_id, else the camera's)")
    parser.add_argument('--base-frame', default='base_link', metavar='FRAME',
                        help='whose pose is tracked and written, if TF connects it with the camera (default: base_link)')
    parser.add_argument('--max-gap-s', type=float, default=0.1, metavar='S',
                        help='longest pause between two true poses that is interpolated (default: 0.1)')
    parser.add_argument('--realtime', action='store_true',
                        help="at the bag's pace: newest frame only, as the node would on this machine")
    _refiner(parser)
    _map_dir(parser)
    _device(parser)


def _add_view(subparsers) -> None:
    parser = _command(subparsers, 'view', commands.view, 'write a map as an interactive page, with a replay over it')
    parser.add_argument('map', metavar='NAME')
    parser.add_argument('--replay', type=Path, metavar='PATH',
                        help='directory of a report or replay, its CSV, or a TUM file: truth green, estimates red')
    parser.add_argument('--out', type=Path, default=Path('map.html'), metavar='FILE', help='default: map.html')
    _map_dir(parser)
    _device(parser)


def _add_masks(subparsers) -> None:
    parser = _command(subparsers, 'masks', making.masks, 'mask what moves in the images of a capture, in masks/ beside them')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH', help='the capture')
    parser.add_argument('--model', required=True, metavar='NAME|PATH', help='a panoptic segmentation model of transformers')
    parser.add_argument('--device', default='auto', help='auto (CUDA if present), cpu or cuda')


def _add_maps(subparsers) -> None:
    _map_dir(_command(subparsers, 'maps', commands.maps, 'list the maps that are found'))


def _add_benchmark(subparsers) -> None:
    parser = _command(subparsers, 'benchmark', making.benchmark, 'measure what README and docs/figures.md show')
    parser.add_argument('what', metavar='WHAT', help='see aprloc benchmark list')
    parser.add_argument('rest', nargs=argparse.REMAINDER, help='options of that benchmark')


def _add_place(subparsers) -> None:
    parser = _command(subparsers, 'place', making.place, 'write the synthetic capture of the demo place')
    parser.add_argument('directory', type=Path, metavar='DIR')
    parser.add_argument('--seed', type=int, default=0, help='of the place and its drives (default: 0)')
    parser.add_argument('--day', metavar='NAME',
                        help='one drive on another day: overcast, dusk, night, wet, snow, autumn; or another one today')
    parser.add_argument('--height', type=int, choices=(240, 480, 960), default=240,
                        help='of the images, in pixels (default: 240)')


if __name__ == '__main__':
    sys.exit(main())
