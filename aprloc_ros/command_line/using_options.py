"""Options of the commands that use a map."""

from pathlib import Path

from aprloc_ros.command_line import using
from aprloc_ros.command_line.options import command, device, domain, map_dir, rate, refiner


def add_demo(subparsers) -> None:
    parser = command(subparsers, 'demo', using.demo,
                      'play an unseen drive of the demo place through the node and judge it')
    parser.add_argument('--map', default='demo', metavar='NAME', help='map of the demo place (default: demo)')
    parser.add_argument('--report', type=Path, default=Path('report'), metavar='DIR', help='default: report')
    parser.add_argument('--rate', type=rate, default=1.0, help='times the pace of the drive (default: 1)')
    map_dir(parser)


def add_localize(subparsers) -> None:
    parser = command(subparsers, 'localize', using.localize, 'localise one image in a map')
    parser.epilog = 'Exit code: 0 for a pose to use, 1 for one that is rejected (the status says so) and for an error.'
    parser.add_argument('image', type=Path, metavar='IMAGE')
    parser.add_argument('--map', required=True, metavar='NAME', help='of a map, or of an atlas, which says in which map the image is')
    parser.add_argument('--camera', metavar='fx,fy,cx,cy|FILE',
                        help="in pixels, or a camera.yaml of ROS; default: what took the map's drive, scaled to the image")
    refiner(parser)
    map_dir(parser)
    device(parser)


def add_evaluate(subparsers) -> None:
    parser = command(subparsers, 'evaluate', using.evaluate,
                      "score a map on a capture's held-out images, or published poses")
    parser.add_argument('map', nargs='?', metavar='NAME', help='of the map')
    parser.add_argument('--data', type=Path, metavar='PATH', help='the capture')
    parser.add_argument('--poses', type=Path, metavar='PATH',
                        help='instead: an npz, or a folder of one for each scene, of arrays of N camera-to-world poses, '
                             'one named truth, the others predictions')
    parser.add_argument('--report', type=Path, metavar='DIR', help='write pictures and a page there')
    refiner(parser)
    map_dir(parser)
    device(parser)


def add_play(subparsers) -> None:
    parser = command(subparsers, 'play', using.play, 'play a bag through the node over DDS and judge its poses')
    parser.add_argument('bag', type=Path, metavar='BAG', help='with image, camera_info and truth, as of aprloc bag')
    parser.add_argument('--map', required=True, metavar='NAME')
    parser.add_argument('--report', type=Path, default=Path('report'), metavar='DIR', help='default: report')
    parser.add_argument('--rate', type=rate, default=1.0, help='times the pace of the bag (default: 1)')
    parser.add_argument('--domain', type=domain, metavar='ID',
                        help='ROS domain to play in; it must be empty (default: one that nobody on this machine uses)')
    map_dir(parser)


def add_replay(subparsers) -> None:
    parser = command(subparsers, 'replay', using.replay,
                      'run a ROS 2 or ROS 1 bag through a map without ROS, and score it where truth is known')
    parser.add_argument('bag', type=Path, metavar='BAG', help='rosbag2 (mcap, sqlite3) or ROS 1 bag')
    parser.add_argument('--map', required=True, metavar='NAME')
    parser.add_argument('--out', type=Path, default=Path('replay'), metavar='DIR',
                        help='for index.html, results.json, estimates.csv, estimates.tum and the rosbag2 estimates '
                             '(default: replay)')
    parser.add_argument('--image', metavar='TOPIC', help='raw or compressed (default: the only one with colour images)')
    parser.add_argument('--camera-info', metavar='TOPIC',
                        help="default: the one beside the images, or the only one; without any, the map's camera")
    parser.add_argument('--rectified', action='store_true',
                        help='the images are rectified already: take P of camera_info and no distortion; so it is of topics image_rect*')
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
    refiner(parser)
    map_dir(parser)
    device(parser)


def add_view(subparsers) -> None:
    parser = command(subparsers, 'view', using.view, 'write a map as an interactive page, with a replay over it')
    parser.add_argument('map', metavar='NAME')
    parser.add_argument('--replay', type=Path, metavar='PATH',
                        help='directory of a report or replay, its CSV, or a TUM file: truth green, estimates red')
    parser.add_argument('--out', type=Path, default=Path('map.html'), metavar='FILE', help='default: map.html')
    map_dir(parser)
    device(parser)


def add_maps(subparsers) -> None:
    map_dir(command(subparsers, 'maps', using.maps, 'list the maps and atlases that are found'))
