"""`aprloc benchmark crossfit`: whether a map knows images better because its descriptors learned on them."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.covariance import residuals
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.scoring.evaluation import RECALL_BOUNDS
from aprloc_ros.training.benchmarks.refine import Question, ask, refine
from aprloc_ros.training.build_map import Build, Request
from aprloc_ros.training.calibration.neighbourhoods import VIEWS_LEFT_OUT, without_neighbourhood
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.stages.descriptors import train_extractor
from aprloc_ros.training.stages.patches import build_patches
from aprloc_ros.training.stages.points import build_points

_STRETCHES = 8   # of the drive; every other one is a half
_ASKED = 25      # frames a number of views left out
_RIGHT_M, _RIGHT_DEG = RECALL_BOUNDS['25cm2deg']
_NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of one map to N questions."""

    xi: Tensor        # [N, 6] off by
    squared: Tensor   # [N] the same, by the Hessian as it comes

    @property
    def right(self) -> Tensor:
        off_m, off_deg = self.xi[:, :3].norm(dim=1), torch.rad2deg(self.xi[:, 3:].norm(dim=1))
        return (off_m < _RIGHT_M) & (off_deg < _RIGHT_DEG)


def benchmark_crossfit(options):
    """Frames that trained, asked of the map, and of one whose descriptors learned on the other half of its drive alone."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    preset = load_preset(options.preset, options.config)
    build = Build(Request('crossfit', read_capture(options.data), options.preset, preset, 0, 'none'), options.work / 'build', options.device)
    half, middle = halves(len(build.fit))
    asked = middle[evenly(len(middle), _ASKED * len(VIEWS_LEFT_OUT))]
    questions = ask(bundle, tuple(build.fit[i] for i in asked.tolist()), options.device)
    left_out = [max(1, VIEWS_LEFT_OUT[i % len(VIEWS_LEFT_OUT)]) for i in range(len(asked))]
    maps = [_of_half(build, bundle, half == number) for number in (0, 1)]
    seen, unseen = (torch.stack([_answer(bundles[half[i]], question, count) for i, question, count in
                                 zip(asked.tolist(), tqdm(questions, desc=what, leave=False), left_out, strict=True)])
                    for what, bundles in (('seen', [bundle] * 2), ('unseen', [maps[1], maps[0]])))
    print(f'{options.name}: {len(asked)} frames that trained, each without its own view or more, on {describe_hardware(build.fabric.device)}')
    print('| views left out | frames | of descriptors that saw them: right in 25cm2deg, median cm / deg | that did not '
          '| squared distance by the Hessian, median, seen / unseen |\n' + '|---' * 5 + '|')
    counts = torch.tensor(left_out)
    for name, rows in {**{str(count): counts == count for count in sorted(set(left_out))}, 'all': counts > 0}.items():
        print(_row(name, *(_Answers(each[rows, :6], each[rows, 6]) for each in (seen, unseen))), flush=True)


def halves(count: int) -> tuple[Tensor, Tensor]:
    """Which half each of the frames of a drive belongs to, [N] 0 or 1, and those that are in the middle of their stretch."""
    place = torch.arange(count) * _STRETCHES / count
    return place.long() % 2, ((place.frac() - 0.5).abs() < 0.25).nonzero()[:, 0]


def seen_by(points: SparsePoints, views: Tensor) -> SparsePoints:
    """The points with what some of the views [N] bool saw of them, as the only views there are."""
    number, kept = views.cumsum(0) - 1, views[points.observations[:, 0]]
    observations = points.observations[kept]
    return SparsePoints(points.xyz, torch.stack([number[observations[:, 0]], observations[:, 1]], 1))


def _of_half(build: Build, bundle: MapBundle, learns: Tensor) -> MapBundle:
    """The map with descriptors that learned on these views [N] bool, and points and patches of all of them."""
    directory = build.work_dir / f'half{int(learns[0])}'
    directory.mkdir(exist_ok=True)
    views = build.descriptor_views(build.fit)
    extractor = train_extractor(build.fabric, views[learns], seen_by(build.descriptor_points, learns), build.preset.descriptors, 0, directory)
    points = build_points(extractor, views, build.descriptor_points, build.preset.map_points)
    return replace(bundle, extractor=extractor,
                   points=replace(points, patches=build_patches(points, build.fit, build.preset.map_patches)))


def _answer(bundle: MapBundle, question: Question, left_out: int) -> Tensor:
    """How far off, and by the Hessian: [7]."""
    found = refine(NreRefiner(bundle.extractor, without_neighbourhood(bundle, question.T_truth, left_out).points), question, _NO_START)
    xi = residuals(found.T_map_cam.double().cpu()[None], question.T_truth[None])
    return torch.cat([xi[0], (xi @ found.hessian.double().cpu() @ xi.mT)[0]])


def _row(name: str, *answers: _Answers) -> str:
    both = torch.stack([each.right for each in answers]).all(0)   # what is wrong would measure the share of it
    cells = []
    for each in answers:
        off_m, off_rad = (part.norm(dim=1)[both].median().item() if both.any() else float('nan') for part in each.xi.split(3, 1))
        cells.append(f'{each.right.double().mean():.0%}, {100 * off_m:.3f} / {math.degrees(off_rad):.4f}')
    squared = ' / '.join(f'{each.squared[both].median():.2f}' if both.any() else '-' for each in answers)
    return f'| {name} | {len(both)} | {" | ".join(cells)} | {squared} |'
