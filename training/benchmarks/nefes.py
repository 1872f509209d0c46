"""`aprloc benchmark nefes`: what the parts of NeFeS do for a place (NeFeS Tables 6 and 7), on one map's networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.catalogue import find_map
from aprloc_ros.fields.field import Field
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.networks import DFNet
from aprloc_ros.networks.extractor import FINE_STRIDE
from aprloc_ros.refinement.refined import Refiner
from aprloc_ros.refinement.rendering.align import AlignRefiner, Extract
from aprloc_ros.refinement.rendering.nefes import NefesPoseRefiner, NefesPoseSettings
from aprloc_ros.refiners import fine_features
from aprloc_ros.scoring.evaluation import score_poses
from aprloc_ros.training.benchmarks.refine import Question, ask, refine
from aprloc_ros.training.build_map import Build, Request
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import Views, load_views
from aprloc_ros.training.presets import Preset, load_preset
from aprloc_ros.training.stages.features import feature_cosine, train_features
from aprloc_ros.training.stages.field import train_field
from aprloc_ros.training.stages.quality import field_psnr_db

_VALIDATION_VIEWS = 10


def _with_field(preset: Preset, **arguments) -> Preset:
    return replace(preset, field=replace(preset.field, arguments={**preset.field.arguments, **arguments}))


def _with_features(preset: Preset, **changes) -> Preset:
    return replace(preset, features=replace(preset.features, **changes))


_DFNET, _HIDDEN = "targets: DFNet's finest features", 16
VARIANTS: dict[str, Callable[[Preset], Preset]] = {
    'without fusion, histogram embedding': lambda p: _with_field(p, fusion_hidden=0),
    _DFNET: lambda p: _with_field(p, fusion_hidden=0),
    'with fusion, progressive': lambda p: _with_field(p, fusion_hidden=_HIDDEN),
    'with fusion, combined': lambda p: _with_features(_with_field(p, fusion_hidden=_HIDDEN), schedule='combined'),
    'affine colour transform (ACT)': lambda p: _with_field(p, fusion_hidden=0, exposure='act'),
    'no exposure': lambda p: _with_field(p, fusion_hidden=0, exposure='none'),
}


@dataclass(frozen=True, eq=False)
class _Bench:
    """A map whose extractor gives the targets, its capture as a build sees it, and what to ask."""

    bundle: MapBundle
    build: Build
    questions: list[Question]
    slow_questions: list[Question]

    def views(self, frames: tuple[Frame, ...]) -> Views:
        """At the size of the fine maps."""
        camera = self.bundle.manifest.descriptors.camera
        return load_views(frames, camera.resized(camera.width // FINE_STRIDE, camera.height // FINE_STRIDE))

    def targets(self, frames: tuple[Frame, ...], extract: Extract) -> Tensor:
        images = load_views(frames, self.bundle.manifest.descriptors.camera).images
        with torch.inference_mode():
            return torch.cat([extract(part.to(self.build.fabric.device).float() / 255)[0].half().cpu() for part in images.split(8)])

    def extract(self, variant: str) -> Extract:
        """Images of the descriptors' size -> the features that the variant's field learns, at half that size."""
        if variant != _DFNET:
            return fine_features(self.bundle.extractor)
        camera = self.bundle.manifest.descriptors.camera
        size = camera.height // FINE_STRIDE, camera.width // FINE_STRIDE

        def extract(image: Tensor) -> Sequence[Tensor]:
            small = F.interpolate(image, size, mode='bilinear', align_corners=False, antialias=True)
            return [F.normalize(maps, dim=1) for maps in self.bundle.regressor.features(small, (0,))]
        return extract


def benchmark_nefes(options):
    """Parts of NeFeS: field and features trained anew without each; the map's extractor, its regressor's poses as starts."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    capture, preset = read_capture(options.data), load_preset(options.preset, options.config)
    build = Build(Request('nefes', capture, options.preset, preset, 0, 'none'), options.work / 'nefes', options.device)
    bench = _Bench(bundle, build, ask(bundle, capture.test[::options.every], options.device),
                   ask(bundle, capture.test[::options.every_slow], options.device))
    print(f'{options.name}: {len(bench.questions)} held-out frames, {len(bench.slow_questions)} for nefes_pose, on '
          f'{describe_hardware(build.fabric.device)}')
    print('| variant | PSNR dB | cosine of features | align: median cm / deg | nefes_pose, spatial normalisation: cm / deg '
          '| nefes_pose, channel-wise: cm / deg |\n|' + '---|' * 6)
    for name, change in VARIANTS.items():
        if name == _DFNET and not isinstance(bundle.regressor, DFNet):
            print(f'| {name} | - the map has no DFNet: build it with --config config/dfnet.yaml |', flush=True)
            continue
        print(f'| {name} | ' + ' | '.join(_cells(bench, change(preset), name)) + ' |', flush=True)


def _cells(bench: _Bench, preset: Preset, variant: str) -> list[str]:
    """Quality on calibration frames, which trained nothing; poses of held-out frames."""
    build, features = bench.build, bench.extract(variant)
    field = _trained(bench, preset, variant, features)
    few = build.calibration[::max(1, len(build.calibration) // _VALIDATION_VIEWS)]
    psnr_db = field_psnr_db(field, build.scene, build.views(few, preset.field.short_side))
    cosine = feature_cosine(field, build.scene, bench.views(few), bench.targets(few, features))
    by_pose = [NefesPoseRefiner(field, build.scene, features, NefesPoseSettings(normalisation=normalisation))
               for normalisation in ('spatial', 'channel')]
    return [f'{psnr_db:.2f}', f'{cosine:.3f}', _error(AlignRefiner(field, build.scene, features), bench.questions),
            *(_error(refiner, bench.slow_questions) for refiner in by_pose)]


def _trained(bench: _Bench, preset: Preset, variant: str, features: Extract) -> Field:
    """Variants that differ in the features alone share a field's folder."""
    build, a = bench.build, preset.field.arguments
    folder = build.work_dir / f'exposure-{a.get("exposure", "embedding")}-fusion-{a.get("fusion_hidden", 0)}'
    own = folder / ''.join(c if c.isalnum() else '-' for c in variant)
    own.mkdir(parents=True, exist_ok=True)
    side = preset.field.short_side
    field = train_field(build.fabric, build.views(build.fit, side), build.views(build.calibration, side), build.depths,
                        build.scene, preset.field, build.request.seed, folder)
    return train_features(build.fabric, field, bench.views(build.fit), bench.targets(build.fit, features), build.scene,
                          preset.features, build.request.seed, own)


def _error(refiner: Refiner, questions: list[Question]) -> str:
    poses = torch.stack([refine(refiner, question).T_map_cam for question in questions])
    s = score_poses(poses, torch.stack([question.T_truth for question in questions]))
    return f'{100 * s.median_m:.2f} / {s.median_deg:.3f}'
