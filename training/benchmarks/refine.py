"""`aprloc benchmark refine`: every refiner of a map on the same held-out images, and how far from the truth it may start."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.gate import Gate
from aprloc_ros.geometry import pose, pose_errors, so3_exp
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.refinement.refined import Budget, Query, Refined, Refiner, make_query
from aprloc_ros.refinement.rendering.align import AlignRefiner
from aprloc_ros.refiners import FAST_REFINERS, REFINERS, fine_features, make_refiner, query_camera
from aprloc_ros.scoring.evaluation import score_poses
from aprloc_ros.training.benchmarks.measures.flops import count_flops
from aprloc_ros.training.calibration.trials import harmful_poses
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import with_lenses

_PLENTY = Budget(500, 600_000.0)
_TURNS_DEG = (2.0, 5.0, 10.0, 20.0, 35.0)
_MOVES = (0.03, 0.1, 0.3, 1.0)     # of the scene's median depth
_HAS_ITS_START = 'nefes_apr'   # the regressor's pose, whatever it is given
_CONVERGED_M, _CONVERGED_DEG = 0.25, 2.0


@dataclass(frozen=True, eq=False)
class Question:
    """A held-out image with its regressor's pose and the truth."""

    query: Query
    T_prior: Tensor
    prior_score: float
    T_truth: Tensor


def benchmark_refine(options):
    """Accuracy, harm, time and arithmetic of every refiner, all from the regressor's pose; convergence with --plot."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    device = resolve_device(options.device)
    test = read_capture(options.data).test
    names = list(options.refiners or REFINERS[1:])
    print(f'{options.name}: {len(test[::options.every])} held-out frames, for the slow refiners '
          f'{len(test[::options.every_slow])}, on {describe_hardware(device)}; no gate but where said')
    print('| refiner | frames | median cm / deg | p95 cm / deg | 5cm5deg | 25cm2deg | worse than prior '
          '| worse behind the gate | time p50 / p95 ms | GFLOP per query |\n|' + '---|' * 10)
    questions = {every: ask(bundle, test[::every], options.device) for every in {options.every, options.every_slow}}
    _print_row('none (regressor)', questions[options.every], [q.T_prior for q in questions[options.every]])
    refined: dict[str, list[Refined]] = {}
    for name in names:
        chosen = questions[options.every if name in FAST_REFINERS else options.every_slow]
        refined[name] = _score(bundle.manifest, make_refiner(name, bundle, device), chosen, name)
    if options.plot:
        print(f'plots: {_plot(bundle, names, questions[options.every_slow], refined, questions, options)}')


def ask(bundle: MapBundle, frames: tuple[Frame, ...], device: str) -> list[Question]:
    """The frames as queries of the map's refiners."""
    regressor, camera = Localizer(bundle, device, 'none'), query_camera(bundle.manifest)
    asked = []
    for frame in with_lenses(frames, bundle.manifest.lenses):
        image = frame.read_image()
        prior = regressor.localize(image, frame.camera)
        asked.append(Question(make_query(image, frame.camera, camera).to(regressor.device_name), prior.T_map_cam, prior.score,
                              frame.T_map_cam))
    return asked


def refine(refiner: Refiner, question: Question, starts: Tensor | None = None) -> Refined:
    """From poses [S, 4, 4], or the regressor's, with as many iterations and as much time as the refiner likes."""
    return refiner.refine(question.query, question.T_prior[None] if starts is None else starts, _PLENTY)


def _score(manifest: Manifest, refiner: Refiner, questions: list[Question], name: str) -> list[Refined]:
    """Refine all and print the row."""
    found, times_ms = [], []
    for question in tqdm(questions, desc=name, leave=False, mininterval=2.0):
        start = time.perf_counter()
        found.append(refine(refiner, question))
        times_ms.append(1e3 * (time.perf_counter() - start))
    gflop = count_flops(lambda: refine(refiner, questions[0])) / 1e9
    p50, p95 = np.percentile(times_ms, (50, 95))
    spec = manifest.refiners.get(name)
    gated = '-' if spec is None else f'{_harmful(_reported(spec.gate, manifest.covariance, found, questions), questions):.1%}'
    _print_row(name, questions, [r.T_map_cam for r in found], gated, f'{p50:.0f} / {p95:.0f}', f'{gflop:.3g}')
    return found


def _reported(gate: Gate, prior_covariance: Tensor, found: list[Refined], questions: list[Question]) -> list[Tensor]:
    """What a node would go on with: the refined pose that the gate believes, else the prior."""
    believed = [gate.judge(r, q.T_prior, prior_covariance, q.prior_score).status == 'refined' for r, q in zip(found, questions)]
    return [r.T_map_cam if use else q.T_prior for r, q, use in zip(found, questions, believed)]


def _harmful(poses: list[Tensor], questions: list[Question]) -> float:
    """Share of poses that are worse than their prior."""
    T, truth, prior = torch.stack(poses), *(torch.stack([getattr(q, key) for q in questions]) for key in ('T_truth', 'T_prior'))
    return harmful_poses(torch.stack(pose_errors(T, truth)), torch.stack(pose_errors(prior, truth))).double().mean().item()


def _print_row(name: str, questions: list[Question], poses: list[Tensor], *measured: str) -> None:
    """measured: what else is known: harm behind the gate, time, arithmetic."""
    s = score_poses(torch.stack(poses), torch.stack([q.T_truth for q in questions]))
    print(f'| {name} | {len(questions)} | {100 * s.median_m:.2f} / {s.median_deg:.3f} | {100 * s.p95_m:.2f} / {s.p95_deg:.2f} '
          f'| {s.recall["5cm5deg"]:.0%} | {s.recall["25cm2deg"]:.0%} | {_harmful(poses, questions):.1%} | '
          f'{" | ".join(measured or "---")} |', flush=True)


# Convergence: NeFeS Fig. 5 and Fig. 6.


def displaced(T: Tensor, move_m: float, turn_deg: float, generator: torch.Generator) -> Tensor:
    """T [4, 4], moved by move_m in a random direction and turned by turn_deg about a random axis of the camera."""
    direction, axis = (F.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0) for _ in range(2))
    return pose(T[:3, :3] @ so3_exp(math.radians(turn_deg) * axis), T[:3, 3] + move_m * direction)


def _plot(bundle: MapBundle, names: list[str], questions: list[Question], refined: dict[str, list[Refined]],
          asked: dict[int, list[Question]], options) -> Path:
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    depth_m = (bundle.manifest.scene.near_m * bundle.manifest.scene.far_m) ** 0.5
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
    device = next(bundle.regressor.parameters()).device
    colours = {name: f'C{index}' for index, name in enumerate(names)}
    for name, colour in colours.items():
        _draw_descent(axes[2], name, colour, refined[name],
                      asked[options.every if name in FAST_REFINERS else options.every_slow])
        if name == _HAS_ITS_START:
            continue
        refiner = _from_its_start(name, bundle, device)
        by_turn = [_success(refiner, questions, 0.0, turn) for turn in _TURNS_DEG]
        by_move = [_success(refiner, questions, move * depth_m, 0.0) for move in _MOVES]
        axes[0].plot(_TURNS_DEG, by_turn, 'o-', color=colour)
        axes[1].plot([move * depth_m for move in _MOVES], by_move, 'o-', color=colour)
        print(f'{name}: success by turn {by_turn}, by move {by_move}', flush=True)
    axes[0].set(xlabel='start turned by, degrees', ylabel=f'share within {_CONVERGED_M:g} m and {_CONVERGED_DEG:g} deg')
    axes[1].set(xlabel='start moved by, m')
    axes[2].set(xlabel='step', ylabel='median error, m', yscale='log')
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(*axes[2].get_legend_handles_labels(), loc='lower center', ncols=len(names), frameon=False)
    figure.suptitle(f'{bundle.manifest.name}: {len(questions)} held-out images, starts displaced from the truth (left, middle)'
                    '; from the regressor (right)')
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(options.plot, dpi=110)
    return options.plot


def _from_its_start(name: str, bundle: MapBundle, device: torch.device) -> Refiner:
    """The refiner as it is, but for align: it begins at the views most like the image, too, which hides its own reach."""
    refiner = make_refiner(name, bundle, device)
    return AlignRefiner(bundle.field, bundle.manifest.scene, fine_features(bundle.extractor)) if name == 'align' else refiner


def _success(refiner: Refiner, questions: list[Question], move_m: float, turn_deg: float) -> float:
    generator = torch.Generator().manual_seed(0)
    good = []
    for question in tqdm(questions, desc=f'starts {move_m:.2f} m and {turn_deg:g} deg off', leave=False, mininterval=2.0):
        found = refine(refiner, question, displaced(question.T_truth, move_m, turn_deg, generator)[None])
        error_m, error_deg = pose_errors(found.T_map_cam, question.T_truth)
        good.append(float(error_m < _CONVERGED_M and error_deg < _CONVERGED_DEG))
    return statistics.mean(good)


def _draw_descent(axis, name: str, colour: str, refined: list[Refined], questions: list[Question]) -> None:
    """Median error over the steps; a refiner that has ended stays where it is."""
    curves = [[pose_errors(step.T_map_cam, q.T_truth)[0].item() for step in r.steps] for r, q in zip(refined, questions)
              if r.steps]
    if curves:
        longest = max(map(len, curves))
        padded = np.array([curve + curve[-1:] * (longest - len(curve)) for curve in curves])
        axis.plot(range(1, longest + 1), np.median(padded, 0), '.-', color=colour, label=name)

