"""`aprloc benchmark ablation`: what the parts of the training do."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from aprloc_ros.fields.views import render_view
from aprloc_ros.geometry import pose_errors
from aprloc_ros.training.build_map import Build, Request
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.stages.field import train_field
from aprloc_ros.training.stages.quality import field_psnr_db
from aprloc_ros.training.stages.regressor import predict_poses, train_regressor
from aprloc_ros.training.structure.depths import from_depth_images

REGRESSOR_VARIANTS: dict[str, Callable] = {
    'full loss (Eq. 5)': lambda r: r,
    'without RVS': lambda r: replace(r, rvs_weight=0.0),
    'without triplet': lambda r: replace(r, triplet_weight=0.0),
    'pose loss on real images alone': lambda r: replace(
        r, kind='posenet', arguments={k: v for k, v in r.arguments.items() if not k.startswith('feature_')}),
}


def benchmark_ablation(options):
    """What depth supervision does for the field, RVS and triplet for the regressor: one table, seeds named."""
    preset = load_preset(options.preset, options.config)
    capture = read_capture(options.data)
    # In a folder of its own: a build empties its work directory when the request has changed.
    base = Build(Request('ablation', capture, options.preset, preset, options.seeds[0], 'none'),
                 options.work / 'ablation', options.device)
    test = base.views(base.test, preset.regressor.short_side)
    print(f'on {describe_hardware(base.fabric.device)}; {len(capture.test)} held-out frames; seeds {options.seeds}')
    print('| field | PSNR dB | sparse-point depth error |\n|---|---|---|')
    for label, weight in (('with depth supervision', preset.field.depth_weight), ('without', 0.0)):
        config = replace(preset.field, depth_weight=weight)
        field = _field(base, config, options, label)
        psnr = field_psnr_db(field, base.scene, base.views(base.test[::5], config.short_side))
        error = _depth_error(base, field)
        print(f'| {label} | {psnr:.2f} | {"-" if error is None else f"{error:.1%}"} |', flush=True)
    print('| regressor | ' + ' | '.join(f'seed {s}: median m / deg' for s in options.seeds) + ' | mean m / deg |\n|'
          + '---|' * (len(options.seeds) + 2))
    for label, change in REGRESSOR_VARIANTS.items():
        errors = [_regressor_errors(base, change(preset.regressor), options, label, seed, test)
                  for seed in options.seeds]
        mean = [statistics.mean(column) for column in zip(*errors)]
        print(f'| {label} | ' + ' | '.join(f'{m:.3f} / {d:.2f}' for m, d in [*errors, mean]) + ' |', flush=True)


def _directory(base: Build, label: str, seed: int) -> Path:
    path = base.work_dir / f'{"".join(c if c.isalnum() else "-" for c in label)}-{seed}'
    path.mkdir(exist_ok=True)
    return path


def _field(base: Build, config, options, label: str):
    views, calibration = (base.views(frames, config.short_side) for frames in (base.fit, base.calibration))
    return train_field(base.fabric, views, calibration, base.depths, base.scene, config, options.seeds[0],
                       _directory(base, label, options.seeds[0]))


def _depth_error(base: Build, field) -> float | None:
    """Median relative depth error of the rendered depth at points of the calibration frames, which trained nothing.

    None for a capture without depth images.
    """
    frames = tuple(f for f in base.calibration if f.depth_path)[:10]
    if not frames:
        return None
    depths = from_depth_images(frames, 0)
    views = base.views(frames, base.preset.field.short_side)
    errors = []
    for i, frame in enumerate(frames):
        mine = depths.frame == i
        _, rendered = render_view(field, base.scene, views.camera, frame.T_map_cam, views.histograms[i])
        cam = (depths.xyz[mine] - frame.T_map_cam[:3, 3]) @ frame.T_map_cam[:3, :3]
        pixels, inside = views.camera.project(cam)
        u, v = pixels[inside].round().long().T
        errors.append((rendered[v, u] / depths.depth_m[mine][inside] - 1).abs())
    return torch.cat(errors).median().item()


def _regressor_errors(base: Build, config, options, label: str, seed: int, test) -> tuple[float, float]:
    field = _field(base, base.preset.field, options, 'with depth supervision')
    views, calibration = (base.views(frames, config.short_side) for frames in (base.fit, base.calibration))
    renderer = Renderer(field, base.scene, views.camera, config.synthetic_short_side)
    model = train_regressor(base.fabric, views, calibration, renderer, config, seed,
                            _directory(base, label, seed))
    error_m, error_deg = pose_errors(predict_poses(model, test.images, base.scene, base.fabric.device), test.T_map_cam)
    return error_m.quantile(0.5).item(), error_deg.quantile(0.5).item()
