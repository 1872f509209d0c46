"""Direct matching: an image against what the field renders at a pose, differentiable in the pose.

By colour (Direct-PoseNet section 3.1) or by features (DFNet section 3.1). Needs no truth.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import check_features, render_colours, render_features
from aprloc_ros.scene import SceneNormalisation
from aprloc_ros.training.images.views import Views
from aprloc_ros.training.stages.losses import feature_distance

_AT_ONCE = 8   # images that are described together

Describe = Callable[[Tensor], Tensor]   # images [B, 3, H, W] in [0, 1] -> feature maps [B, C, h, w]


class Matching(Protocol):
    """Knows the images of a drive."""

    def loss(self, index: int, T_map_cam: Tensor) -> Tensor:
        """[]: how unlike image `index` is to what the field shows at T_map_cam [4, 4]."""
        ...


class PhotometricMatching:
    """Mean squared error of colours, the squared distance of Direct-PoseNet Eq. 1 per pixel and channel, at the exposure of the image."""

    def __init__(self, field: nn.Module, scene: SceneNormalisation, views: Views, short_side: int):
        """short_side: pixels of the rendering."""
        self._field, self._scene, self._histograms = field, scene, views.histograms
        self._camera = small_camera(views.camera, short_side)
        self._targets = torch.cat([_reduced(part.float() / 255, self._camera) for part in views.images.split(_AT_ONCE)])

    def loss(self, index: int, T_map_cam: Tensor) -> Tensor:
        rgb, _ = render_colours(self._field, self._scene, self._camera, T_map_cam, self._histograms[index])
        return (rgb - self._targets[index].to(rgb.device)).square().mean()


class FieldFeatureMatching:
    """L_dm of DFNet Eq. 1, mean over the map: the features that the field renders against those of the image (NeFeS section 3.1)."""

    def __init__(self, field: nn.Module, scene: SceneNormalisation, views: Views, describe: Describe, short_side: int):
        """views: of the size that `describe` takes; short_side: pixels of the rendering. AprlocError for a field without features."""
        check_features(field)
        self._field, self._scene, self._histograms = field, scene, views.histograms
        self._camera = small_camera(views.camera, short_side)
        self._targets = torch.cat([_reduced(maps, self._camera) for maps in _described(views, describe)])

    def loss(self, index: int, T_map_cam: Tensor) -> Tensor:
        rendered = render_features(self._field, self._scene, self._camera, T_map_cam, self._histograms[index]).features
        target = self._targets[index:index + 1].to(rendered.device)
        return feature_distance(rendered[None, :target.shape[1]], target)[0]


class RegressorFeatureMatching:
    """L_dm of DFNet Eq. 1, mean over the map: DFNet's finest features of the rendering, enlarged, against those of the image.

    The extractor is a frozen copy (section 3.1: only the weights of the pose estimator are updated).
    """

    def __init__(self, field: nn.Module, scene: SceneNormalisation, views: Views, describe: Describe, short_side: int):
        """describe: differentiable; views: of the size that it takes; short_side: pixels of the rendering."""
        self._field, self._scene, self._histograms, self._describe = field, scene, views.histograms, describe
        self._camera, self._size = small_camera(views.camera, short_side), (views.camera.height, views.camera.width)
        self._targets = torch.cat([maps.half().cpu() for maps in _described(views, describe)])

    def loss(self, index: int, T_map_cam: Tensor) -> Tensor:
        rgb, _ = render_colours(self._field, self._scene, self._camera, T_map_cam, self._histograms[index])
        enlarged = F.interpolate(rgb[None], self._size, mode='bilinear', align_corners=False)
        target = self._targets[index:index + 1].to(rgb.device).float()
        return feature_distance(self._describe(enlarged), target)[0]


def small_camera(camera: Camera, short_side: int) -> Camera:
    """The same view, never enlarged."""
    return camera.with_short_side(min(short_side, camera.width, camera.height))


def _described(views: Views, describe: Describe):
    with torch.no_grad():
        for part in views.images.split(_AT_ONCE):
            yield describe(part.float() / 255)


def _reduced(maps: Tensor, camera: Camera) -> Tensor:
    return F.interpolate(maps, (camera.height, camera.width), mode='area')
