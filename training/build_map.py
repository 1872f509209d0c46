"""`aprloc build`: from a posed capture to a map, stage by stage, resumable after an interruption at any moment."""

import hashlib
import json
import resource
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

import aprloc_ros
from aprloc_ros.config import to_mapping
from aprloc_ros.covariance import prior_covariance, residuals
from aprloc_ros.geometry import pose_errors
from aprloc_ros.manifest import BuildFacts, Manifest, ModelSpec, Provenance, check_map_name
from aprloc_ros.map_bundle import USER_MAPS, check_target, save_map
from aprloc_ros.training import normalisation
from aprloc_ros.training.clock import Clock
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.depths import SparseDepths, from_depth_images, from_points
from aprloc_ros.training.field import field_arguments, train_field
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.loop import make_fabric, write_atomically
from aprloc_ros.training.presets import Preset, load_preset
from aprloc_ros.training.quality import field_psnr_db
from aprloc_ros.training.regressor import predict_poses, train_regressor
from aprloc_ros.training.synthesis import Renderer
from aprloc_ros.training.triangulation import triangulate
from aprloc_ros.training.views import Views, common_camera, load_views

_PSNR_VIEWS = 20


@dataclass(frozen=True)
class Request:
    """What to build from what."""

    name: str
    capture: Capture
    preset_name: str
    preset: Preset
    seed: int
    imagenet: str        # 'none', 'imagenet' or a checkpoint file for the regressor's backbone

    @cached_property
    def content_hash(self) -> str:
        """Of the poses and images of every frame."""
        digest = hashlib.sha256()
        for frame in (*self.capture.train, *self.capture.test):
            digest.update(frame.name.encode())
            digest.update(frame.T_map_cam.numpy().tobytes())
            digest.update(hashlib.sha256(frame.image_path.read_bytes()).digest())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Equal for builds that may continue one another."""
        return json.dumps([self.name, self.content_hash, to_mapping(self.preset), self.seed, self.imagenet,
                           aprloc_ros.__version__])


class Build:
    """The stages of one build in their order; each reads what the ones before it left in the work directory."""

    def __init__(self, request: Request, work_dir: Path, device: str):
        self.request, self.preset, self.work_dir = request, request.preset, work_dir
        self.fabric = make_fabric(device)
        # Calibration frames are held out of training, for early stopping and for the covariance; test frames score.
        self.fit, self.calibration = calibration_split(request.capture.train, request.capture.name)
        if self.fabric.global_rank == 0:
            self._prepare_work_dir()
            self.clock = Clock(work_dir)
        self.fabric.barrier()

    def say(self, text: str):
        if self.fabric.global_rank == 0:
            print(text, flush=True)

    def _prepare_work_dir(self):
        stamp = self.work_dir / 'request.json'
        if stamp.is_file() and stamp.read_text() == self.request.fingerprint():
            self.say(f'continuing the interrupted build in {self.work_dir}')
            return
        shutil.rmtree(self.work_dir, ignore_errors=True)
        self.work_dir.mkdir(parents=True)
        stamp.write_text(self.request.fingerprint())

    @cached_property
    def depths(self) -> SparseDepths:
        """Stage 0: sparse depths of the fit frames from depth images, the capture's points, or triangulation."""
        cache = self.work_dir / 'depths.pt'
        if self.fabric.global_rank == 0 and not cache.exists():
            found = self._find_depths()
            write_atomically(cache, [found.frame, found.xyz, found.depth_m])
        self.fabric.barrier()
        return SparseDepths(*torch.load(cache, weights_only=True))

    def _find_depths(self) -> SparseDepths:
        capture = self.request.capture
        if any(frame.depth_path for frame in self.fit):
            self.say('depth: from the capture\'s depth images')
            return from_depth_images(self.fit, self.request.seed)
        if capture.points is not None:
            self.say(f'depth: from the capture\'s {len(capture.points.xyz)} points')
            return from_points(self.fit, _points_of(self.fit, capture))
        points = triangulate(self.fit, self.work_dir / 'colmap', self.preset.max_sift_frames, self.say)
        return from_points(self.fit, points)

    @cached_property
    def scene(self):
        return normalisation.derive(torch.stack([frame.T_map_cam for frame in self.fit]), self.depths)

    def views(self, frames: tuple[Frame, ...], short_side: int) -> Views:
        return load_views(frames, common_camera(self.fit, short_side))

    @cached_property
    def field(self) -> torch.nn.Module:
        """Stage 1."""
        side = self.preset.field.short_side
        return train_field(self.fabric, self.views(self.fit, side), self.views(self.calibration, side), self.depths,
                           self.scene, self.preset.field, self.request.seed, self.work_dir)

    @cached_property
    def regressor(self) -> torch.nn.Module:
        """Stage 2."""
        config = self.preset.regressor
        views = self.views(self.fit, config.short_side)
        renderer = Renderer(self.field, self.scene, views.camera, config.synthetic_short_side)
        return train_regressor(self.fabric, views, self.views(self.calibration, config.short_side), renderer, config,
                               self.request.seed, self.work_dir, self.request.imagenet)

    def save(self, target: Path):
        """Stage 3: score, calibrate and write the map; the work directory goes."""
        regressor, field = self.regressor, self.field
        if self.fabric.global_rank == 0:
            curves = {path.name: path.read_bytes() for path in sorted(self.work_dir.glob('*.csv'))}
            save_map(target, self._manifest(), regressor, field, curves)
            shutil.rmtree(self.work_dir)
        self.fabric.barrier()

    def _manifest(self) -> Manifest:
        config, capture = self.preset.regressor, self.request.capture
        calibration = self.views(self.calibration, config.short_side)
        predicted = predict_poses(self.regressor, calibration.images, self.scene, self.fabric.device)
        return Manifest(
            name=self.request.name, camera=calibration.camera, scene=self.scene,
            regressor=ModelSpec(config.kind, dict(config.arguments)),
            field=ModelSpec(self.preset.field.kind, field_arguments(self.preset.field, self.scene)),
            data=Provenance(capture.format, capture.name, len(capture.train), len(capture.test),
                            self.request.content_hash, self.request.seed, aprloc_ros.__version__),
            accuracy=self._accuracy(), history=self._history(),
            covariance=prior_covariance(residuals(predicted, calibration.T_map_cam)), build=self._facts())

    def _accuracy(self) -> dict[str, float]:
        """On the test frames, or on the calibration frames of a capture that has none."""
        frames = self.request.capture.test or self.calibration
        views = self.views(frames, self.preset.regressor.short_side)
        predicted = predict_poses(self.regressor, views.images, self.scene, self.fabric.device)
        error_m, error_deg = pose_errors(predicted, views.T_map_cam)
        chosen = torch.linspace(0, len(frames) - 1, min(_PSNR_VIEWS, len(frames))).round().long()
        psnr = field_psnr_db(self.field, self.scene, self.views(frames, self.preset.field.short_side)[chosen])
        return {'median_m': error_m.quantile(0.5).item(), 'median_deg': error_deg.quantile(0.5).item(),
                'p95_m': error_m.quantile(0.95).item(), 'p95_deg': error_deg.quantile(0.95).item(),
                'psnr_db': psnr, 'frames': float(len(frames))}

    def _history(self) -> dict[str, list[list[float]]]:
        """How the calibration frames' scores moved: seconds and dB of the field; seconds, m and deg of the regressor."""
        wanted = {'field': ('validation_psnr_db',), 'regressor': ('validation_m', 'validation_deg')}
        history = {}
        for stage, keys in wanted.items():
            rows = torch.load(self.work_dir / f'{stage}.ckpt', map_location='cpu', weights_only=True)['rows']
            history[stage] = [[row['seconds'], *(row[key] for key in keys)] for row in rows if keys[0] in row]
        return history

    def _facts(self) -> BuildFacts:
        return BuildFacts(self.request.preset_name, round(self.clock.seconds, 1),
                          round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                          describe_hardware(self.fabric.device), torch.__version__)

    def pause(self):
        """Note that this session ends with the build unfinished."""
        if self.fabric.global_rank == 0:
            self.clock.pause()


def _points_of(fit: tuple[Frame, ...], capture: Capture):
    """The capture's points with their observations renumbered to the fit frames."""
    position = {frame.name: index for index, frame in enumerate(fit)}
    renumbered = torch.tensor([position.get(frame.name, -1) for frame in capture.train])
    frame = renumbered[capture.points.observations[:, 0]]
    kept = torch.stack([frame, capture.points.observations[:, 1]], 1)[frame >= 0]
    return type(capture.points)(capture.points.xyz, kept)


def build(name: str, data: Path, preset: str = 'small', map_dir: Path | None = None, config: Path | None = None,
          device: str = 'auto', seed: int = 0, imagenet: str = 'none', until: str = 'map') -> Path:
    """Build (or finish building) a map; returns its directory.

    until: 'field' or 'regressor' stop after that stage and leave it in the work directory for the next call.
    Raises AprlocError for a mistake in the request or the capture.
    """
    check_map_name(name)
    settings = load_preset(preset, config)
    maps = Path(map_dir or USER_MAPS).expanduser()
    target = check_target(maps / name)
    work_dir = maps / '.building' / name
    capture = read_capture(data, cache_dir=maps / '.building' / f'{name}-images')
    work = Build(Request(name, capture, preset, settings, seed, imagenet), work_dir, device)
    work.say(f'{capture.format} capture {capture.name}: {len(work.fit)} frames to fit, {len(work.calibration)} to '
             f'calibrate, {len(capture.test)} held out for the score')
    try:
        if until != 'map':
            getattr(work, until)
            work.pause()
            return work_dir
        work.save(target)
    except BaseException:
        work.pause()
        raise
    shutil.rmtree(maps / '.building' / f'{name}-images', ignore_errors=True)
    return target
