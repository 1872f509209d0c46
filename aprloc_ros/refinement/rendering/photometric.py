"""Refinement by colour alone: Direct-PoseNet's direct matching (section 3.1), on the pose of one query."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.fields.rendering import RayBatch, render_rays
from aprloc_ros.refinement.refined import Query
from aprloc_ros.refinement.rendering.descent import Comparison, DescentRefiner
from aprloc_ros.scene import SceneNormalisation


@dataclass(frozen=True)
class PhotometricSettings:
    """Rates and sizes as NeFeS has them for poses indoors: Direct-PoseNet moves the regressor, not the pose."""

    iterations: int = field(default=50, metadata={'range': (1, 1000)})
    short_side: int = field(default=60, metadata={'range': (8, 1024)})   # pixels of the rendering
    translation_rate: float = field(default=0.01, metadata={'range': (0.0, 10.0)})
    rotation_rate: float = field(default=0.0087, metadata={'range': (0.0, 1.0)})


class PhotometricRefiner(DescentRefiner):
    """`photometric`: Adam on the pose, down the mean squared colour error at the query's exposure, from the first start."""

    def __init__(self, radiance: nn.Module, scene: SceneNormalisation, settings: PhotometricSettings | None = None):
        super().__init__(settings or PhotometricSettings())
        self._radiance, self._scene = radiance, scene

    def _compare(self, query: Query) -> Callable[[Tensor], Comparison]:
        side = min(self._settings.short_side, query.camera.width, query.camera.height)
        camera = query.camera.with_short_side(side)
        shape = camera.height, camera.width
        target = F.interpolate(query.image[None], shape, mode='area')[0]
        in_camera = camera.directions().to(target.device).view(-1, 3)
        histogram = query.histogram.to(target.device).expand(len(in_camera), -1)

        def compare(T_map_cam: Tensor) -> Comparison:
            T_scene_cam = self._scene.camera_in_scene(T_map_cam).to(target.device)
            directions = in_camera @ T_scene_cam[:3, :3].T
            rays = RayBatch(T_scene_cam[:3, 3].expand_as(directions), directions, histogram)
            rendering = render_rays(self._radiance, rays, self._scene.near, self._scene.far)
            rgb = rendering.rgb.float().T.reshape(3, *shape)
            return Comparison((rgb - target).square().mean(), rgb.detach(), target,
                              rendering.depth.detach().view(shape) * self._scene.scene_unit_m,
                              rendering.opacity.detach().view(shape), camera)
        return compare
