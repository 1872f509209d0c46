"""`aprloc benchmark`: the figures of the README, each printed by one command."""

import argparse
from collections.abc import Callable
from pathlib import Path

from aprloc_ros.command_line.options import count, gamma
from aprloc_ros.refiners import REFINERS
from aprloc_ros.training.benchmarks.ablation import benchmark_ablation
from aprloc_ros.training.benchmarks.adapt import benchmark_adapt
from aprloc_ros.training.benchmarks.atlas import benchmark_atlas
from aprloc_ros.training.benchmarks.budget import benchmark_budget
from aprloc_ros.training.benchmarks.camera import benchmark_camera
from aprloc_ros.training.benchmarks.contradictions import benchmark_contradictions
from aprloc_ros.training.benchmarks.covariance import benchmark_covariance
from aprloc_ros.training.benchmarks.crossfit import benchmark_crossfit
from aprloc_ros.training.benchmarks.days import benchmark_days
from aprloc_ros.training.benchmarks.descriptors import benchmark_descriptors
from aprloc_ros.training.benchmarks.exposure import benchmark_exposure
from aprloc_ros.training.benchmarks.film import benchmark_film
from aprloc_ros.training.benchmarks.maps import benchmark_maps
from aprloc_ros.training.benchmarks.metres import benchmark_metres
from aprloc_ros.training.benchmarks.nefes import benchmark_nefes
from aprloc_ros.training.benchmarks.nre import benchmark_nre
from aprloc_ros.training.benchmarks.pose import benchmark_pose
from aprloc_ros.training.benchmarks.pose_maps import benchmark_pose_maps
from aprloc_ros.training.benchmarks.priors import PRIOR_REFINERS, benchmark_priors
from aprloc_ros.training.benchmarks.refine import benchmark_refine
from aprloc_ros.training.benchmarks.seasons import benchmark_seasons
from aprloc_ros.training.benchmarks.warps import benchmark_warps
from aprloc_ros.training.stages.adaptation import METHODS

_CHECKPOINTS = 'folder for checkpoints: an interrupted run goes on'


class _Commands:
    """The subcommands of a parser, by what they ask for."""

    def __init__(self, parser: argparse.ArgumentParser):
        self._subparsers = parser.add_subparsers(metavar='WHAT', required=True)

    def add(self, name: str, run: Callable) -> argparse.ArgumentParser:
        sub = self._subparsers.add_parser(name, help=run.__doc__, description=run.__doc__)
        sub.set_defaults(run=run)
        sub.add_argument('--device', default='auto', help='auto, cpu or cuda')
        return sub

    def of_a_map(self, name: str, run: Callable) -> argparse.ArgumentParser:
        sub = self.add(name, run)
        sub.add_argument('name')
        sub.add_argument('--data', type=Path, required=True)
        sub.add_argument('--map-dir', type=Path)
        return sub

    def of_frames(self, name: str, run: Callable, work: str = '', slow: str = '') -> argparse.ArgumentParser:
        """work: what its folder is for; slow: whose frames have a number of their own."""
        sub = self.of_a_map(name, run)
        sub.add_argument('--every', type=count, default=1, metavar='N', help='score every Nth held-out frame (default: all)')
        if slow:
            sub.add_argument('--every-slow', type=count, default=10, metavar='N', help=f'the same for {slow}')
        if work:
            sub.add_argument('--work', type=Path, required=True, help=work)
        return sub


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='aprloc benchmark')
    commands = _Commands(parser)
    for add in (_add_maps, _add_refiners, _add_first_poses, _add_honesty, _add_days, _add_parts, _add_posing):
        add(commands)
    return parser


def _add_maps(commands: _Commands):
    maps = commands.add('maps', benchmark_maps)
    maps.add_argument('names', nargs='*', help='default: all')
    maps.add_argument('--map-dir', type=Path)
    maps.add_argument('--plot', type=Path, metavar='FILE.png', help='draw how the scores moved with training time')
    film = commands.add('film', benchmark_film)
    film.add_argument('name')
    film.add_argument('--bag', type=Path, required=True, help='with truth, as of aprloc bag')
    film.add_argument('--out', type=Path, required=True, metavar='FILE.webp|FILE.gif')
    film.add_argument('--every', type=count, default=2, metavar='N', help='show every Nth frame (default: 2)')
    film.add_argument('--map-dir', type=Path)


def _add_refiners(commands: _Commands):
    refine = commands.of_frames('refine', benchmark_refine, slow='nefes and photometric')
    refine.add_argument('--refiners', nargs='+', choices=REFINERS[1:], help='default: all')
    refine.add_argument('--plot', type=Path, metavar='FILE.png', help='draw convergence, on the frames of --every-slow')
    commands.of_frames('nre', benchmark_nre, work='folder for the SIFT map')


def _add_first_poses(commands: _Commands):
    priors = commands.of_frames('priors', benchmark_priors, work=_CHECKPOINTS, slow='nefes')
    priors.add_argument('--regressors', type=Path, nargs='*', default=[], metavar='FILE.yaml',
                        help="settings of a build: their regressors are trained on the map's field and are first poses too")
    priors.add_argument('--imagenet', metavar='PATH|imagenet', default='none', help="their backbones' weights, as of aprloc build")
    priors.add_argument('--atlas', metavar='NAME', help="an atlas that knows the map: its network's is a first pose too")
    priors.add_argument('--refiners', nargs='+', choices=PRIOR_REFINERS, help='default: all')
    adapt = commands.of_frames('adapt', benchmark_adapt, work=_CHECKPOINTS)
    adapt.add_argument('--methods', nargs='+', choices=tuple(METHODS), help='default: all')
    adapt.add_argument('--regressor', type=Path, metavar='FILE.yaml',
                       help="settings of a build: their regressor, trained on the map's field, is taught in place of the map's own")
    adapt.add_argument('--gamma', type=gamma, default=1.0, metavar='G', help='power of all colours: above 1 is darker (default: 1)')
    atlas = commands.add('atlas', benchmark_atlas)
    atlas.add_argument('places', nargs='+', metavar='MAP=CAPTURE', help='as of aprloc atlas')
    atlas.add_argument('--map-dir', type=Path)
    atlas.add_argument('--work', type=Path, required=True, help=_CHECKPOINTS)


def _add_honesty(commands: _Commands):
    budget = commands.of_frames('budget', benchmark_budget)
    budget.add_argument('--plot', type=Path, metavar='FILE.png', help='draw answered share and error')
    commands.of_frames('camera', benchmark_camera)
    commands.of_frames('warps', benchmark_warps)
    covariance = commands.of_frames('covariance', benchmark_covariance, work='folder that keeps the answers, for another look at them')
    covariance.add_argument('--refiner', choices=REFINERS[1:], help='default: that of the map')
    commands.add('contradictions', benchmark_contradictions).add_argument('--data', type=Path, required=True)


def _add_days(commands: _Commands):
    days = commands.of_frames('days', benchmark_days, work='folder for the triangulated points')
    days.add_argument('--days', type=Path, nargs='+', default=[], metavar='DIR', help='captures of other days')
    seasons = commands.of_a_map('seasons', benchmark_seasons)
    seasons.add_argument('--queries', type=Path, required=True, help='folder of images of the same way, of the same names where they show the same')
    seasons.add_argument('--work', type=Path, required=True, help='folder for the triangulated points')


def _add_parts(commands: _Commands):
    """What the parts of a build are good for."""
    commands.of_a_map('exposure', benchmark_exposure)
    ablation = commands.add('ablation', benchmark_ablation)
    ablation.add_argument('--data', type=Path, required=True)
    ablation.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    ablation.add_argument('--work', type=Path, required=True, help=_CHECKPOINTS)
    crossfit = commands.of_a_map('crossfit', benchmark_crossfit)
    crossfit.add_argument('--work', type=Path, required=True, help=_CHECKPOINTS)
    for sub in (ablation, crossfit, commands.of_frames('nefes', benchmark_nefes, work=_CHECKPOINTS, slow='nefes_pose'),
                commands.of_frames('descriptors', benchmark_descriptors, work=_CHECKPOINTS)):
        sub.add_argument('--preset', default='small')
        sub.add_argument('--config', type=Path)


def _add_posing(commands: _Commands):
    pose = commands.add('pose', benchmark_pose)
    pose.add_argument('--data', type=Path, nargs='+', required=True, help='captures, or folders of images without poses')
    pose.add_argument('--frames', type=count, default=300, metavar='N', help='at most so many of each, evenly (default: 300)')
    pose.add_argument('--by', nargs='+', choices=('aprloc', 'colmap'), default=['aprloc', 'colmap'],
                      help="whose structure from motion: ours, pycolmap's defaults (default: both)")
    pose.add_argument('--work', type=Path, required=True, help='folder for what is found')
    pose_maps = commands.add('pose_maps', benchmark_pose_maps)
    pose_maps.add_argument('names', nargs='+', metavar='NAME', help='maps of the same training images')
    pose_maps.add_argument('--data', type=Path, required=True, help='these, and held-out ones, with poses')
    pose_maps.add_argument('--map-dir', type=Path)
    commands.add('metres', benchmark_metres).add_argument('--data', type=Path, required=True, help='of aprloc place')


def main(argv: list[str]) -> int:
    """Run one benchmark, or `list` them; AprlocError for a mistake in its options."""
    if argv == ['list']:
        _parser().print_help()
        return 0
    options = _parser().parse_args(argv)
    options.run(options)
    return 0
