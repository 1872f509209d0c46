"""The refiners by name, each made from what a map has."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.device import place
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.refinement.points.nre import NreRefiner, look
from aprloc_ros.refinement.points.nre_settings import QUICK
from aprloc_ros.refinement.points.retrieval import ViewIndex
from aprloc_ros.refinement.refined import Budget, Query, Refined, Refiner, Stopwatch
from aprloc_ros.refinement.rendering.align import AlignRefiner
from aprloc_ros.refinement.rendering.nefes import NefesAprRefiner, NefesPoseRefiner
from aprloc_ros.refinement.rendering.photometric import PhotometricRefiner


def _nre(bundle: MapBundle) -> Refiner:
    return NreRefiner(bundle.extractor, bundle.points)


def _nre_quick(bundle: MapBundle) -> Refiner:
    return NreRefiner(bundle.extractor, bundle.points, QUICK)


def _align(bundle: MapBundle) -> Refiner:
    return _AlignFromLikeViews(bundle)


def _nefes_pose(bundle: MapBundle) -> Refiner:
    return NefesPoseRefiner(bundle.field, bundle.manifest.scene, fine_features(bundle.extractor))


def _nefes_apr(bundle: MapBundle) -> Refiner:
    regressor = _AtItsOwnSize(bundle.regressor, bundle.manifest.camera)
    return NefesAprRefiner(regressor, bundle.field, bundle.manifest.scene, fine_features(bundle.extractor))


def _photometric(bundle: MapBundle) -> Refiner:
    return PhotometricRefiner(bundle.field, bundle.manifest.scene)


_MAKERS: dict[str, Callable[[MapBundle], Refiner]] = {
    'nre': _nre, 'nre_quick': _nre_quick, 'align': _align, 'nefes_apr': _nefes_apr, 'nefes_pose': _nefes_pose, 'photometric': _photometric}
REFINERS = ('none', *_MAKERS)
FAST_REFINERS = ('nre', 'align')   # a build calibrates these and picks one of them
QUICK_REFINER = 'nre_quick'        # is calibrated too, and asked where time is too short for that one
_LIKE_VIEWS = 2
_NEED_DESCRIPTORS = ('nre', 'nre_quick', 'align', 'nefes_apr', 'nefes_pose')
_NEED_FEATURES = ('align', 'nefes_apr', 'nefes_pose')


def look_through(bundle: MapBundle, query: Query, refiner: str) -> Query:
    """A query of a map's regressor and refiner with the features that both need, at the size that the refiner wants."""
    return look(query, bundle.extractor, QUICK.scale if refiner == QUICK_REFINER else 1.0)


def query_camera(manifest: Manifest) -> Camera:
    """What a refiner's image is of: the camera of the descriptors where the map has some."""
    return manifest.descriptors.camera if manifest.descriptors else manifest.camera


def make_refiner(name: str, bundle: MapBundle, device: torch.device) -> Refiner | None:
    """The named refiner of a map, its networks on the device; None for 'none'.

    Raises AprlocError for an unknown name and for a refiner whose networks the map lacks.
    """
    if name not in REFINERS:
        raise AprlocError(f'refiner {name!r} is not one of {", ".join(REFINERS)}')
    if name == 'none':
        return None
    missing = missing_for(name, bundle)
    if missing:
        raise AprlocError(f'the map {bundle.manifest.name} has no {missing}, which the refiner {name} needs; rebuild it '
                          'with aprloc build, or use the refiner none')
    for network in (bundle.field, bundle.extractor):
        if network is not None:
            place(network, device)
    return _MAKERS[name](bundle)


def missing_for(name: str, bundle: MapBundle) -> str:
    """What the map lacks for a refiner: 'descriptors', 'features', or '' for nothing."""
    if name in _NEED_DESCRIPTORS and bundle.points is None:
        return 'descriptors'
    return 'features' if name in _NEED_FEATURES and not bundle.field.feature_channels else ''


def fine_features(extractor: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """Images [B, 3, h, w] -> the feature maps that the field renders: the fine descriptors."""
    def extract(image: Tensor) -> Sequence[Tensor]:
        return [extractor(image.contiguous(memory_format=torch.channels_last)).fine]
    return extract


class _AlignFromLikeViews:
    """Aligns from the map's views most like the image, too; its features are extracted once for both."""

    def __init__(self, bundle: MapBundle):
        self._bundle = bundle
        self._index = ViewIndex(bundle.points, next(bundle.extractor.parameters()).device)

    @torch.no_grad()
    def refine(self, query: Query, starts: Tensor, budget: Budget) -> Refined:
        watch, bundle = Stopwatch(budget), self._bundle
        features = look(query, bundle.extractor, 1.0).features
        poses = bundle.points.view_poses
        like = self._index.likeness(features.coarse[0]).topk(min(_LIKE_VIEWS, len(poses))).indices
        left = Budget(budget.iterations, max(0.0, budget.milliseconds - watch.elapsed_ms))
        refiner = AlignRefiner(bundle.field, bundle.manifest.scene, lambda image: [features.fine])
        return refiner.refine(query, torch.cat([starts, poses[like]]), left)


class _AtItsOwnSize(nn.Module):
    """A regressor that takes images of any size."""

    def __init__(self, regressor: nn.Module, camera: Camera):
        super().__init__()
        self.regressor, self.size = regressor, (camera.height, camera.width)

    def forward(self, image: Tensor) -> Tensor:
        return self.regressor(F.interpolate(image, self.size, mode='bilinear', align_corners=False, antialias=True))
