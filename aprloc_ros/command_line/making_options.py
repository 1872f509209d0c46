"""Options of the commands that make something: captures, maps, figures."""

import argparse
from pathlib import Path

from aprloc_ros.command_line import making
from aprloc_ros.command_line.options import command, device, map_dir, seed


def add_pose(subparsers) -> None:
    parser = command(subparsers, 'pose', making.pose,
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
    seed(parser)


def add_build(subparsers) -> None:
    parser = command(subparsers, 'build', making.build, 'build a map from posed images')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, action='append', metavar='PATH',
                        help='the capture; its format is recognised; again for each further drive in the same frame')
    parser.add_argument('--preset', choices=('small', 'paper'), default='small', help='default: small')
    parser.add_argument('--config', type=Path, metavar='FILE.yaml', help='values that replace those of the preset')
    seed(parser)
    parser.add_argument('--imagenet', metavar='PATH|imagenet', default='none',
                        help='backbone weights: a checkpoint file, or imagenet to download them (default: none)')
    parser.add_argument('--until', choices=('field', 'regressor', 'descriptors', 'features', 'map'), default='map',
                        help='stop after a stage; the same command without it goes on from there (default: map)')
    map_dir(parser, 'where the map is written (default: ~/.ros/aprloc/maps)')
    device(parser)


def add_extend(subparsers) -> None:
    parser = command(subparsers, 'extend', making.extend, 'teach a map a later drive, in other light or with things moved')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, action='append', metavar='PATH',
                        help='the drive; drives that taught the map before, if their images are there, may be given too: they '
                             'serve to check that nothing is forgotten')
    map_dir(parser)
    device(parser)


def add_calibrate(subparsers) -> None:
    parser = command(subparsers, 'calibrate', making.calibrate,
                      'fit gates and covariances of a map to a second drive through its place, or to its own; trains nothing')
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH',
                        help='a capture with poses in the frame of the map: another drive, or for a map of an older version the one '
                             'that built it')
    map_dir(parser)
    device(parser)


def add_adapt(subparsers) -> None:
    parser = command(subparsers, 'adapt', making.adapt,
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
    map_dir(parser)
    device(parser)


def add_align(subparsers) -> None:
    parser = command(subparsers, 'align', making.align, "put a map into the frame of a robot's trajectory, without training")
    parser.add_argument('name', metavar='NAME', help='of the map')
    parser.add_argument('--to', required=True, metavar='TRAJECTORY', help='a TUM file, or a topic of poses or tf of the bag')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH',
                        help='bag or capture with the images of that trajectory; the map localises some of them')
    parser.add_argument('--with-scale', action='store_true', help="the map's unit becomes that of the trajectory too")
    map_dir(parser)
    device(parser)


def add_atlas(subparsers) -> None:
    parser = command(subparsers, 'atlas', making.atlas, 'learn in which of several maps an image was taken')
    parser.add_argument('name', metavar='NAME', help='of the atlas; aprloc localize takes it in place of a map')
    parser.add_argument('places', nargs='+', metavar='MAP=CAPTURE', help='a map and the capture that it was built from')
    map_dir(parser, 'where the atlas is written, and maps are searched first (default: ~/.ros/aprloc/maps)')
    device(parser)


def add_bag(subparsers) -> None:
    parser = command(subparsers, 'bag', making.bag,
                      "write a capture's held-out images as a rosbag2 with their true poses")
    parser.add_argument('--data', type=Path, required=True, metavar='PATH', help='the capture')
    parser.add_argument('--out', type=Path, required=True, metavar='BAG', help='directory to write')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ',
                        help='frames a second where the capture has no stamps (default: 10)')


def add_masks(subparsers) -> None:
    parser = command(subparsers, 'masks', making.masks, 'mask what moves in the images of a capture, in masks/ beside them')
    parser.add_argument('--data', type=Path, required=True, metavar='PATH', help='the capture')
    parser.add_argument('--model', required=True, metavar='NAME|PATH', help='a panoptic segmentation model of transformers')
    parser.add_argument('--device', default='auto', help='auto (CUDA if present), cpu or cuda')


def add_benchmark(subparsers) -> None:
    parser = command(subparsers, 'benchmark', making.benchmark, 'measure what README and docs/figures.md show')
    parser.add_argument('what', metavar='WHAT', nargs='?', default='list', help='which; list, the default, lists them')
    parser.add_argument('rest', nargs=argparse.REMAINDER, help='options of that benchmark')


def add_place(subparsers) -> None:
    parser = command(subparsers, 'place', making.place, 'write the synthetic capture of the demo place')
    parser.add_argument('directory', type=Path, metavar='DIR')
    seed(parser, 'of the place and its drives')
    parser.add_argument('--day', metavar='NAME',
                        help='one drive on another day: overcast, dusk, night, wet, snow, autumn; or another one today')
    parser.add_argument('--height', type=int, choices=(240, 480, 960), default=240,
                        help='of the images, in pixels (default: 240)')
