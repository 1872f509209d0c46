"""The paper's refinement: follow the feature error's gradient into the pose, or into a copy of the regressor.

NeFeS sections 3.1 (regressor) and 3.3 (pose).
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.fields.views import render_features
from aprloc_ros.networks import to_T
from aprloc_ros.refinement.refined import Query
from aprloc_ros.refinement.rendering.descent import Comparison, DescentRefiner, step
from aprloc_ros.scene import SceneNormalisation

Extract = Callable[[Tensor], Sequence[Tensor]]

_EPSILON = 1e-6
_BORDER_HEIGHT = 240   # of the maps that the border is given for


@dataclass(frozen=True)
class NefesSettings:
    """What both have in common; defaults are the paper's."""

    iterations: int = field(default=50, metadata={'range': (1, 1000)})
    short_side: int = field(default=60, metadata={'range': (8, 1024)})   # pixels of the rendering
    normalisation: str = field(default='spatial', metadata={'choices': ('spatial', 'channel')})


@dataclass(frozen=True)
class NefesPoseSettings(NefesSettings):
    """The paper's rates for indoor scenes; outdoors it has 0.1 for translation and 0.01 for rotation (section 4.4)."""

    translation_rate: float = field(default=0.01, metadata={'range': (0.0, 10.0)})
    rotation_rate: float = field(default=0.0087, metadata={'range': (0.0, 1.0)})


@dataclass(frozen=True)
class NefesAprSettings(NefesSettings):
    """The rate is one for all weights."""

    rate: float = field(default=1e-5, metadata={'range': (0.0, 1.0)})
    border: int = field(default=10, metadata={'range': (0, 100)})        # cut off; pixels of a map 240 high


def feature_cost(rendered: Tensor, target: Tensor, normalisation: str) -> Tensor:
    """One minus the cosine of features [C, H, W], in the mean (NeFeS Eq. 1 and section 4.8).

    'spatial': over the vector of all pixels of each channel; 'channel': over that of all channels of each pixel.
    """
    axis = 1 if normalisation == 'spatial' else 0
    return (1 - F.cosine_similarity(rendered.flatten(1), target.flatten(1), dim=axis, eps=_EPSILON)).mean()


class _Nefes(DescentRefiner):
    """Renders features at the pose of a variable and compares them with the query's."""

    def __init__(self, radiance: nn.Module, scene: SceneNormalisation, extract: Extract, settings: NefesSettings):
        super().__init__(settings)
        self._radiance, self._scene, self._extract = radiance, scene, extract

    @torch.no_grad()
    def _target(self, query: Query) -> Tensor:
        return self._extract(query.image[None])[0][0].float()

    def _compared_at(self, rendered: Camera, target: Camera) -> tuple[Camera, int]:
        """The size at which the cost compares, and the border that it leaves out, in its pixels."""
        raise NotImplementedError

    def _compare(self, query: Query) -> Callable[[Tensor], Comparison]:
        target = self._target(query)
        side = min(self._settings.short_side, query.camera.width, query.camera.height)
        camera = query.camera.with_short_side(side)
        size, border = self._compared_at(camera, query.camera.resized(target.shape[2], target.shape[1]))
        compared = _inner(_resized(target, size), border)
        small, spatial = _resized(target, camera), self._settings.normalisation == 'spatial'

        def compare(T_map_cam: Tensor) -> Comparison:
            view = render_features(self._radiance, self._scene, camera, T_map_cam, query.histogram)
            features = view.features[:len(target)]   # of a field with several levels the finest, as in the paper
            cost = feature_cost(_inner(_resized(features, size), border), compared, self._settings.normalisation)
            return Comparison(cost, _normalised(features.detach(), spatial), _normalised(small, spatial),
                              view.depth_m.detach(), view.opacity.detach(), camera)
        return compare


class NefesPoseRefiner(_Nefes):
    """`nefes_pose`: Adam on the pose in its tangent space, compared at the size of the rendering, from the first start.

    extract: image [1, 3, h, w] in [0, 1] -> feature maps [1, C, H, W]; the first, the finest, is used.
    """

    def __init__(self, radiance: nn.Module, scene: SceneNormalisation, extract: Extract,
                 settings: NefesPoseSettings | None = None):
        super().__init__(radiance, scene, extract, settings or NefesPoseSettings())

    def _compared_at(self, rendered, target):
        return rendered, 0


class NefesAprRefiner(_Nefes):
    """`nefes_apr`: Adam on all weights of a copy of the regressor, from its own pose whatever the starts are.

    The rendering is enlarged to the size of the query's features and its border cut off. extract: as for
    NefesPoseRefiner; the extractor is not the copy, it stays as it is.
    """

    def __init__(self, regressor: nn.Module, radiance: nn.Module, scene: SceneNormalisation, extract: Extract,
                 settings: NefesAprSettings | None = None):
        super().__init__(radiance, scene, extract, settings or NefesAprSettings())
        self._regressor = regressor

    def _variable(self, query, start):
        return _RegressorCopy(self._regressor, query.image, self._scene, self._settings.rate)

    def _compared_at(self, rendered, target):
        return target, round(self._settings.border * min(1.0, target.height / _BORDER_HEIGHT))


class _RegressorCopy:
    """A copy of a regressor that answers one image, and learns."""

    def __init__(self, regressor: nn.Module, image: Tensor, scene: SceneNormalisation, rate: float):
        # Evaluation mode: batch normalisation uses its statistics and leaves them.
        self._regressor = copy.deepcopy(regressor).eval().requires_grad_(True)
        self._image, self._scene = image[None], scene
        self._adam = torch.optim.Adam(self._regressor.parameters(), lr=rate)

    def pose(self) -> Tensor:
        return self._scene.pose_to_map(to_T(self._regressor(self._image)))[0]

    def step(self) -> bool:
        return step(self._adam)


def _resized(features: Tensor, camera: Camera) -> Tensor:
    size = camera.height, camera.width
    if features.shape[1:] == size:
        return features
    return F.interpolate(features[None], size, mode='bilinear', align_corners=False)[0]


def _inner(features: Tensor, border: int) -> Tensor:
    height, width = features.shape[1:]
    return features[:, border:height - border, border:width - border]


def _normalised(features: Tensor, spatial: bool) -> Tensor:
    """As Eq. 1 sees features [C, H, W]: of unit mean square over each channel or unit length in each pixel."""
    if spatial:
        return F.normalize(features.flatten(1), dim=1).view_as(features) * math.prod(features.shape[1:]) ** 0.5
    return F.normalize(features, dim=0)
