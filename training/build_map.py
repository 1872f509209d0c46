"""`aprloc build`: from a posed capture to a map, stage by stage, resumable after an interruption at any moment."""

import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.catalogue import USER_MAPS, check_map_name
from aprloc_ros.errors import AprlocError
from aprloc_ros.lens import Lens
from aprloc_ros.map_bundle import check_target
from aprloc_ros.networks.compact import Compact
from aprloc_ros.networks.extractor import FINE_STRIDE
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.finish import write_map
from aprloc_ros.training.foundation import Foundation, find_foundation
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.images.views import Views, common_camera, load_views
from aprloc_ros.training.posing.unposed import read_drives
from aprloc_ros.training.presets import load_preset
from aprloc_ros.training.request import Request
from aprloc_ros.training.resumption import claim, resume
from aprloc_ros.training.stages import normalisation
from aprloc_ros.training.stages.clock import Clock
from aprloc_ros.training.stages.coordinates import coordinate_arguments, train_coordinates
from aprloc_ros.training.stages.descriptors import descriptor_camera, fine_maps, train_extractor
from aprloc_ros.training.stages.features import train_features
from aprloc_ros.training.stages.field import train_field
from aprloc_ros.training.stages.loop import make_fabric, write_atomically
from aprloc_ros.training.stages.regressor import train_regressor
from aprloc_ros.training.structure.depth_points import points_from_field
from aprloc_ros.training.structure.depths import SparseDepths, from_depth_images, from_points

_STAGES = {'field': 'field', 'regressor': 'regressor', 'descriptors': 'extractor', 'features': 'feature_field'}


class Build:
    """The stages of one build in their order; each reads what the ones before it left in the work directory."""

    def __init__(self, request: Request, work_dir: Path, device: str):
        self.request, self.preset, self.work_dir = request, request.preset, work_dir
        self.fabric = make_fabric(device)
        self._fit, self._calibration = calibration_split(request.capture.train, request.capture.name)
        if self.fabric.global_rank == 0:
            resume(work_dir, request.fingerprint(), self.say)
            self.clock = Clock(work_dir)
        self.fabric.barrier()

    def say(self, text: str):
        if self.fabric.global_rank == 0:
            print(text, flush=True)

    @cached_property
    def fit(self) -> tuple[Frame, ...]:
        """Frames that train, with what is known of their cameras."""
        return self._foundation.known(self._fit)

    @cached_property
    def calibration(self) -> tuple[Frame, ...]:
        """Held out of training, for early stopping and for gates and covariances."""
        return self._foundation.known(self._calibration)

    @cached_property
    def test(self) -> tuple[Frame, ...]:
        """For the score alone."""
        return self._foundation.known(self.request.capture.test)

    def _cached(self, name: str, find: Callable[[], list]) -> list:
        """What `find` returns, found once by the first process and kept in the work directory."""
        cache = self.work_dir / name
        if self.fabric.global_rank == 0 and not cache.exists():
            write_atomically(cache, find())
        self.fabric.barrier()
        return torch.load(cache, weights_only=True)

    @cached_property
    def _foundation(self) -> Foundation:
        """Stage 0."""
        return Foundation.from_list(self._cached('foundation.pt', lambda: find_foundation(
            self.request.capture, self._fit, self.work_dir, self.preset.max_sift_frames, self.say).to_list()))

    @property
    def tracks(self) -> SparsePoints:
        """Points that several fit frames saw. AprlocError where too few could be triangulated."""
        if self._foundation.reason:
            raise AprlocError(self._foundation.reason)
        return self._foundation.points

    @property
    def lenses(self) -> tuple[Lens, ...]:
        """Of cameras that are not as the capture declares."""
        return self._foundation.lenses

    @cached_property
    def depths(self) -> SparseDepths:
        """Sparse depths of the fit frames, from depth images where there are any."""
        return SparseDepths(*self._cached('depths.pt', self._find_depths))

    def _find_depths(self) -> list[Tensor]:
        if any(frame.depth_path for frame in self.fit):
            self.say('depth: from the capture\'s depth images')
            found = from_depth_images(self.fit, self.request.seed)
        else:
            found = from_points(self.fit, self.tracks)
        return [found.frame, found.xyz, found.depth_m]

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
        """Stage 2; a regressor that looks through the descriptors comes after these."""
        config = self.preset.regressor
        if config.kind == 'coordinates':
            return train_coordinates(self.fabric, self.extractor, self.descriptor_views(self.fit),
                                     self.descriptor_views(self.calibration), self.descriptor_points, self.scene,
                                     config, self.preset.coordinates, self.preset.descriptors, self.request.seed,
                                     self.work_dir)
        views = self.views(self.fit, config.short_side)
        renderer = Renderer(self.field, self.scene, views.camera, config.synthetic_short_side)
        return train_regressor(self.fabric, views, self.views(self.calibration, config.short_side), renderer, config,
                               self.request.seed, self.work_dir, self.request.imagenet)

    @property
    def regressor_arguments(self) -> dict[str, object]:
        """Of the regressor's class, whole."""
        config = self.preset.regressor
        return coordinate_arguments(config, self.extractor) if config.kind == 'coordinates' else dict(config.arguments)

    @property
    def regressor_camera(self) -> Camera:
        """Of the regressor's images."""
        if self.preset.regressor.kind == 'coordinates':
            return self.descriptor_camera
        return common_camera(self.fit, self.preset.regressor.short_side)

    @cached_property
    def descriptor_points(self) -> SparsePoints:
        """What the descriptors learn on: tracks, or points on the field's surfaces where SIFT finds too little."""
        try:
            return self.tracks
        except AprlocError as error:
            self.say(f'{error}; descriptors learn on the field\'s surfaces')
        return SparsePoints(*self._cached('surfaces.pt', self._find_surfaces))

    def _find_surfaces(self) -> list[Tensor]:
        points = points_from_field(self.field, self.scene, self.views(self.fit, self.preset.field.short_side), self.request.seed)
        return [points.xyz, points.observations]

    @cached_property
    def descriptor_camera(self) -> Camera:
        """Of the extractor's images."""
        whole = common_camera(self.fit, min(self.fit[0].camera.width, self.fit[0].camera.height))
        return descriptor_camera(whole, self.preset.descriptors.short_side)

    def descriptor_views(self, frames: tuple[Frame, ...]) -> Views:
        return load_views(frames, self.descriptor_camera)

    @cached_property
    def extractor(self) -> torch.nn.Module:
        """Stage 3."""
        config = self.preset.descriptors
        pretrained = self.request.imagenet if config.arguments.get('backbone', Compact.name) != Compact.name else 'none'
        return train_extractor(self.fabric, self.descriptor_views(self.fit), self.descriptor_points, config,
                               self.request.seed, self.work_dir, pretrained)

    @cached_property
    def feature_field(self) -> torch.nn.Module:
        """Stage 4: the field with the descriptors' fine maps as its features (NeFeS section 3.2)."""
        if not self.field.feature_channels:
            return self.field
        return train_features(self.fabric, self.field, *self.feature_views(self.fit), self.scene, self.preset.features,
                              self.request.seed, self.work_dir)

    def feature_views(self, frames: tuple[Frame, ...]) -> tuple[Views, Tensor]:
        """Views of the size of the fine maps, and these maps: what the field's features should be."""
        camera = self.descriptor_camera
        small = load_views(frames, camera.resized(camera.width // FINE_STRIDE, camera.height // FINE_STRIDE))
        return small, fine_maps(self.extractor, self.descriptor_views(frames))

    def save(self, target: Path):
        """Stage 5: the map's points and its calibration; the work directory goes."""
        _ = self.regressor, self.feature_field   # all processes train
        if self.fabric.global_rank == 0:
            if target.is_dir():
                claim(target)
            write_map(self, target)
            shutil.rmtree(self.work_dir)
        self.fabric.barrier()

    def pause(self):
        """Note that this session ends with the build unfinished."""
        if self.fabric.global_rank == 0:
            self.clock.pause()


def build(name: str, data: Path | Sequence[Path], preset: str = 'small', map_dir: Path | None = None, config: Path | None = None,
          device: str = 'auto', seed: int = 0, imagenet: str = 'none', until: str = 'map') -> Path:
    """Build (or finish building) a map; returns its directory.

    data: a capture, or several with poses in one frame.
    until: one of _STAGES: stop after that stage and leave it in the work directory for the next call.
    Raises AprlocError for a mistake in the request or the capture.
    """
    check_map_name(name)
    settings = load_preset(preset, config)
    maps = Path(map_dir or USER_MAPS).expanduser()
    target = check_target(maps / name)
    work_dir, images = maps / '.building' / name, maps / '.building' / f'{name}.images'
    capture = read_drives([data] if isinstance(data, (str, Path)) else data, maps / '.posed' / name, images)
    work = Build(Request(name, capture, preset, settings, seed, imagenet), work_dir, device)
    work.say(f'{capture.format} capture {capture.name}: {len(work._fit)} frames to fit, {len(work._calibration)} to '
             f'calibrate, {len(capture.test)} held out for the score')
    for note in capture.notes:
        work.say(note)
    try:
        if until != 'map':
            getattr(work, _STAGES[until])
            work.pause()
            return work_dir
        work.save(target)
    except BaseException:
        work.pause()
        raise
    shutil.rmtree(images, ignore_errors=True)
    return target
