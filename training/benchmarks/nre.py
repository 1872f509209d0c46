"""`aprloc benchmark nre`: the estimator of the NRE paper against others on the same features, its time, and what it bears."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.geometry import invert, pose_errors
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.networks.extractor import COARSE_STRIDE
from aprloc_ros.refinement.feature_metric import feature_metric
from aprloc_ros.refinement.loss_maps import sparse_maps
from aprloc_ros.refinement.points.nre import NreRefiner
from aprloc_ros.refinement.points.nre_trace import NreTrace
from aprloc_ros.refinement.refined import Budget, Query, Stopwatch, make_query
from aprloc_ros.refiners import query_camera
from aprloc_ros.scoring.evaluation import PoseScores, score_errors
from aprloc_ros.training.benchmarks.measures.damages import damages
from aprloc_ros.training.benchmarks.rivals.feature_map import FeatureMap
from aprloc_ros.training.benchmarks.rivals.reprojection import estimate_from_matches
from aprloc_ros.training.benchmarks.rivals.sift import SIFT
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.presets import PRESETS
from aprloc_ros.training.structure.triangulation import triangulate

_PLENTY = Budget(500)
_NO_START = torch.zeros(0, 4, 4, dtype=torch.float64)
_LOST = 1e6   # metres and degrees of a frame without a pose
_COARSE_PX = 8.0    # a match's cell is as large


@dataclass(frozen=True, eq=False)
class _Bench:
    """One map with the held-out frames of its capture."""

    bundle: MapBundle
    refiner: NreRefiner
    frames: tuple[Frame, ...]

    def query(self, image: np.ndarray, frame: Frame) -> Query:
        device = next(self.bundle.extractor.parameters()).device
        return make_query(image, frame.camera, query_camera(self.bundle.manifest)).to(device)


def benchmark_nre(options):
    """NRE against reprojection errors on the same features and against SIFT; time; blur, exposure, occlusion, noise."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    capture = read_capture(options.data)
    bench = _Bench(bundle, NreRefiner(bundle.extractor, bundle.points),
                   with_lenses(capture.test[::options.every], bundle.manifest.lenses))
    print(f'{options.name}: {len(bench.frames)} held-out frames, no prior, on {describe_hardware(torch.device("cpu"))}')
    _compare_estimators(bench)
    _time_stages(bench)
    _compare_damage(bench, _sift_map(capture, options.work), PRESETS[bundle.manifest.build.preset].descriptors.blur_px)


def _sift_map(capture, work: Path) -> FeatureMap:
    fit, _ = calibration_split(capture.train, capture.name)
    found = triangulate(fit, work / 'colmap', PRESETS['small'].max_sift_frames)
    return FeatureMap(SIFT, with_lenses(fit, found.lenses), found.points)


def _scores(poses: list[Tensor | None], frames: tuple[Frame, ...]) -> PoseScores:
    """A frame without a pose is as wrong as can be."""
    errors = [pose_errors(T, f.T_map_cam) if T is not None else (torch.tensor(_LOST), torch.tensor(_LOST))
              for T, f in zip(poses, frames)]
    return score_errors(*(torch.stack([torch.as_tensor(e, dtype=torch.float64) for e in column]) for column in zip(*errors)))


def _error(m: float, deg: float) -> str:
    """Centimetres and degrees."""
    return 'no pose' if m > _LOST / 2 else f'{100 * m:.2f} / {deg:.3f}'


def scores_row(name: str, s: PoseScores) -> str:
    """A row of a table: median and p95 in cm and degrees, two recalls."""
    return (f'| {name} | {_error(s.median_m, s.median_deg)} | {_error(s.p95_m, s.p95_deg)} '
            f'| {s.recall["5cm5deg"]:.1%} | {s.recall["25cm2deg"]:.1%} |')


# The paper's Tables 1 and 4: the same features, other estimators.


def _compare_estimators(bench: _Bench):
    poses: dict[str, list[Tensor | None]] = {}
    for frame in tqdm(bench.frames, desc='estimators', leave=False, mininterval=2.0):
        query = bench.query(frame.read_image(), frame)
        for name, T in _estimates(bench, query).items():
            poses.setdefault(name, []).append(T)
    print('| estimator | median cm / deg | p95 cm / deg | 5cm5deg | 25cm2deg |\n|' + '---|' * 5)
    for name, found in poses.items():
        print(scores_row(name, _scores(found, bench.frames)))


def _estimates(bench: _Bench, query: Query) -> dict[str, Tensor | None]:
    """Poses by estimator. Those on matches take the likeliest coarse cell of each point, all that a match can hold."""
    trace = bench.refiner.trace(query, _NO_START, Stopwatch(_PLENTY))
    maps = sparse_maps(trace.log_coarse, trace.coarse_camera.width, 1)
    matches = (torch.from_numpy(trace.xyz), to_pixels(torch.from_numpy(maps.best).double(), COARSE_STRIDE),
               torch.from_numpy(maps.sureness).double(), query.camera)
    ends = {'NRE with patches': trace.sharp or trace.final} if bench.bundle.points.patches else {}
    ends['NRE with a feature-metric end'] = trace.final
    found = {**{name: end and end.T_map_cam for name, end in ends.items()}, 'NRE, coarse to fine': _inverted(trace.fine),
             'NRE, coarse maps alone': _inverted(trace.coarse), 'NRE, MSAC + P3P alone': _inverted(trace.first)}
    for name, method in (('LO-RANSAC', 'lo_ransac'), ('MAGSAC++', 'magsac'), ('Eq. 11', 'eq11')):
        found[f'RE: {name}'] = estimate_from_matches(*matches, method, _COARSE_PX)
    found['FPR: Eq. 12, from MAGSAC++'] = _feature_metric(bench, query, trace, found['RE: MAGSAC++'])
    return found


def _inverted(T: np.ndarray | None) -> Tensor | None:
    return None if T is None else invert(torch.from_numpy(np.ascontiguousarray(T)))


@torch.inference_mode()
def _feature_metric(bench: _Bench, query: Query, trace: NreTrace, start: Tensor | None) -> Tensor | None:
    if start is None:
        return None
    features = bench.bundle.extractor(query.image[None].contiguous(memory_format=torch.channels_last))[0]
    fine = bench.bundle.points.fine[trace.chosen]
    return feature_metric(start, torch.from_numpy(trace.xyz), fine, features.fine, query.camera).T_map_cam


def to_pixels(cells: Tensor, stride: int) -> Tensor:
    """Centres of cells [N, 2] of a map of that stride, in pixels."""
    return (cells + 0.5) * stride - 0.5


# The paper's Table 3.


def _time_stages(bench: _Bench):
    laps: dict[str, list[float]] = {}
    memory_mb = {}
    for frame in bench.frames:
        query = bench.query(frame.read_image(), frame)
        start = time.perf_counter()
        with torch.inference_mode():
            features = bench.bundle.extractor(query.image[None].contiguous(memory_format=torch.channels_last))[0]
        extraction_ms = 1e3 * (time.perf_counter() - start)
        start = time.perf_counter()
        trace = bench.refiner.trace(query, _NO_START, Stopwatch(_PLENTY))
        total_ms = 1e3 * (time.perf_counter() - start)
        spent = {'extraction': extraction_ms, 'total': total_ms}
        if trace is not None and trace.final is not None:
            last = len(trace.steps) - 1 - (trace.sharp is not None)
            sampled_ms, refined_ms, features_ms = (trace.steps[at].elapsed_ms for at in (0, last - 1, last))
            spent |= {'retrieval, coarse maps, MSAC + P3P': sampled_ms - extraction_ms,
                      'coarse and fine refinement': refined_ms - sampled_ms, 'feature-metric end': features_ms - refined_ms}
            if trace.sharp:
                spent['patches'] = trace.steps[-1].elapsed_ms - features_ms
            memory_mb = {'features': _bytes(features.coarse, features.fine) / 1e6, 'loss maps': (
                _bytes(trace.log_coarse) + trace.fine_maps.cells.nbytes + trace.fine_maps.gains.nbytes) / 1e6}
        for name, ms in spent.items():
            laps.setdefault(name, []).append(ms)
    print('\n| stage | p50 / p95 ms |\n|---|---|')
    for name, values in laps.items():
        p50, p95 = np.percentile(values[min(3, len(values) - 1):], (50, 95))
        print(f'| {name} | {p50:.1f} / {p95:.1f} |')
    print('memory of the last query: ' + ', '.join(f'{name} {size:.1f} MB' for name, size in memory_mb.items()))


def _bytes(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _compare_damage(bench: _Bench, sift: FeatureMap, blur_px: float):
    print('\n| images | NRE: median cm / deg | 5cm5deg | 25cm2deg | SIFT: median cm / deg | 5cm5deg | 25cm2deg '
          '| SIFT p50 ms |\n|' + '---|' * 8)
    for name, damage in damages(blur_px).items():
        generator = torch.Generator().manual_seed(0)
        mine, theirs, times = [], [], []
        for frame in tqdm(bench.frames, desc=name, leave=False, mininterval=2.0):
            image = damage(frame.read_image(), generator)
            found = bench.refiner.refine(bench.query(image, frame), _NO_START, _PLENTY)
            mine.append(None if found.failed else found.T_map_cam)
            start = time.perf_counter()
            theirs.append(sift.localize(image, frame.camera))
            times.append(1e3 * (time.perf_counter() - start))
        cells = []
        for s in (_scores(mine, bench.frames), _scores(theirs, bench.frames)):
            cells += [_error(s.median_m, s.median_deg), f'{s.recall["5cm5deg"]:.0%}',
                      f'{s.recall["25cm2deg"]:.0%}']
        print(f'| {name} | ' + ' | '.join(cells) + f' | {np.median(times):.0f} |', flush=True)
