"""What several commands of `aprloc` take."""

import argparse
from pathlib import Path


def command(subparsers, name: str, run, text: str) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def map_dir(parser: argparse.ArgumentParser, text: str = 'directory of maps that is searched first') -> None:
    parser.add_argument('--map-dir', type=Path, metavar='DIR', help=text)


def device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='auto', help='auto (CUDA if present), cpu, cuda or cuda:N')


def refiner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--refiner', default='default', metavar='NAME',
                        help="nre, align, nefes_pose, nefes_apr, photometric or none (default: the map's own)")


def seed(parser: argparse.ArgumentParser, text: str = 'of every random choice') -> None:
    parser.add_argument('--seed', type=_seed, default=0, help=f'{text} (default: 0)')


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2 ** 31:   # COLMAP takes a negative one for none
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to {2 ** 31 - 1}')
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is less than 1')
    return value


def gamma(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 10:
        raise argparse.ArgumentTypeError(f'{text} is outside 0.1 to 10')
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to 100')
    return value


def domain(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 232:
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to 232')
    return value
