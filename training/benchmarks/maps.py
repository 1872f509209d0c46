"""`aprloc benchmark maps`: what every map is worth, and how fast."""

import statistics
import time

import torch

from aprloc_ros.catalogue import find_map, list_maps
from aprloc_ros.fields.views import render_view
from aprloc_ros.histogram import BINS
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.training.benchmarks.measures.curves import plot_histories
from aprloc_ros.training.hardware import describe_hardware

_QUERIES, _WARM_UP, _VIEWS = 60, 5, 10


def benchmark_maps(options):
    """Every map: size, build, held-out accuracy, the field's speed and the regressor's latency."""
    found = {name: find_map(name, options.map_dir) for name in options.names or list_maps(options.map_dir)}
    bundles = {name: load_map(path, options.device) for name, path in found.items()}
    print(f'measured now on {_here(options.device)}')
    print('| map | field | held-out frames | PSNR dB | refiner | median m / deg | p95 m / deg | regressor alone m / deg '
          '| build s (preset) | peak MB | map MB | rays/s | regress p50 / p95 ms | query p50 / p95 ms |')
    print('|' + '---|' * 14)
    for name, bundle in bundles.items():
        m, a = bundle.manifest, bundle.manifest.accuracy
        laps = _laps_ms(bundle, options.device)
        print(f'| {name} | {m.field.kind} | {_shown(a, "frames", 0)} | {_shown(a, "psnr_db", 1)} | {m.refiner} '
              f'| {_shown(a, "median_m", 4)} / {_shown(a, "median_deg", 2)} '
              f'| {_shown(a, "p95_m", 4)} / {_shown(a, "p95_deg", 2)} '
              f'| {_shown(a, "regressor_median_m", 3)} / {_shown(a, "regressor_median_deg", 2)} '
              f'| {m.build.seconds:.0f} ({m.build.preset}) | {m.build.peak_memory_mb:.0f} | {bundle.size_bytes / 1e6:.2f} '
              f'| {_rays_per_s(bundle):.0f} | {_quantiles(laps["regress"])} | {_quantiles(laps["total"])} |')
    for name, bundle in bundles.items():
        print(f'{name} was built on {bundle.manifest.build.hardware}')
    if options.plot:
        print(f'curves over training time: {plot_histories(bundles, options.plot)}')


def _shown(accuracy: dict[str, float], key: str, digits: int) -> str:
    return f'{accuracy[key]:.{digits}f}' if key in accuracy else '-'


def _here(device: str) -> str:
    return describe_hardware(torch.device('cuda' if device != 'cpu' and torch.cuda.is_available() else 'cpu'))


def _laps_ms(bundle: MapBundle, device: str) -> dict[str, list[float]]:
    """What each part of a query took, on renderings of the place, which a refiner can work with."""
    localizer, m = Localizer(bundle, device), bundle.manifest
    poses = m.scene.T_map_scene[None] if bundle.points is None else bundle.points.view_poses
    views = [render_view(bundle.field, m.scene, m.camera, T, torch.full((BINS,), 1 / BINS))[0]
             for T in poses[torch.linspace(0, len(poses) - 1, _VIEWS).long()]]
    images = [(255 * view).byte().permute(1, 2, 0).contiguous().cpu().numpy() for view in views]
    timings = [localizer.localize(images[i % _VIEWS]).timings_ms for i in range(_WARM_UP + _QUERIES)]
    return {name: [timing[name] for timing in timings[_WARM_UP:]] for name in ('regress', 'total')}


def _quantiles(times_ms: list[float]) -> str:
    return f'{statistics.median(times_ms):.1f} / {sorted(times_ms)[int(0.95 * len(times_ms))]:.1f}'


def _rays_per_s(bundle: MapBundle) -> float:
    m = bundle.manifest
    start = time.perf_counter()
    for _ in range(3):
        render_view(bundle.field, m.scene, m.camera, m.scene.T_map_scene, torch.full((BINS,), 1 / BINS))[0].sum().item()
    return 3 * m.camera.width * m.camera.height / (time.perf_counter() - start)
