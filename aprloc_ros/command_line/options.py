"""What several commands of `aprloc` take."""

import argparse
from collections.abc import Callable
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
                        help="nre, nre_quick, align, nefes_pose, nefes_apr, photometric or none (default: the map's own)")


def between(kind: type, low: float, high: float) -> Callable[[str], float]:
    """What argparse reads a number by that lies from low to high."""
    def read(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text} is outside {low} to {high}')
        return value
    read.__name__ = kind.__name__   # argparse says it of what is no number
    return read


_seed = between(int, 0, 2 ** 31 - 1)   # COLMAP takes a negative one for none
domain = between(int, 0, 232)
count = between(int, 1, 10 ** 6)
gamma = between(float, 0.1, 10)


def seed(parser: argparse.ArgumentParser, text: str = 'of every random choice') -> None:
    parser.add_argument('--seed', type=_seed, default=0, help=f'{text} (default: 0)')


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f'{text} is outside 0 to 100')
    return value
