"""The coordinates in which the networks see a place: centred, of order one."""

import hashlib
from dataclasses import dataclass, field, replace

from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import check_pose, invert, pose
from aprloc_ros.similarity import Similarity

LENGTHS_M = 1e-4, 1e6   # that a map can have
_LENGTH_M = {'range': LENGTHS_M}


@dataclass(frozen=True, eq=False)
class SceneNormalisation:
    """Derived from a capture, never typed by hand.

    The scene frame is a rigid frame in the place. The field sees points in it divided by `scene_unit_m`; the
    regressor's translation is in it divided by `pose_unit_m`.
    """

    T_map_scene: Tensor = field(metadata={'shape': (4, 4)})   # [4, 4] float64, rigid, metres
    scene_unit_m: float = field(metadata=_LENGTH_M)
    pose_unit_m: float = field(metadata=_LENGTH_M)
    near_m: float = field(metadata=_LENGTH_M)                 # depths along the optical axis that matter
    far_m: float = field(metadata=_LENGTH_M)
    bounds: Tensor = field(metadata={'shape': (2, 3)})        # [2, 3] float64: lowest and highest corner, scene units

    def __post_init__(self):
        object.__setattr__(self, 'T_map_scene', check_pose(self.T_map_scene, 'T_map_scene'))
        if not self.near_m < self.far_m:
            raise AprlocError(f'near_m {self.near_m} must be less than far_m {self.far_m}')
        if not (self.bounds[0] < self.bounds[1]).all():
            raise AprlocError(f'bounds {self.bounds.tolist()} must be the lowest, then the highest corner')

    @property
    def fingerprint(self) -> str:
        """Of the frame that the place is in: another one once its map was aligned or built anew."""
        numbers = [*self.T_map_scene.flatten().tolist(), self.pose_unit_m]
        return hashlib.sha256(repr(numbers).encode()).hexdigest()[:16]

    @property
    def near(self) -> float:
        """Nearest depth in scene units."""
        return self.near_m / self.scene_unit_m

    @property
    def far(self) -> float:
        """Farthest depth in scene units."""
        return self.far_m / self.scene_unit_m

    def moved(self, change: Similarity) -> 'SceneNormalisation':
        """The same scene coordinates of a place whose map frame is another one."""
        lengths_m = {name: change.scale * getattr(self, name)
                     for name in ('scene_unit_m', 'pose_unit_m', 'near_m', 'far_m')}
        return replace(self, T_map_scene=change.apply(self.T_map_scene), **lengths_m)

    def camera_in_scene(self, T_map_cam: Tensor) -> Tensor:
        """Where rays start: [..., 4, 4] -> T_scene_cam [..., 4, 4] float32, translation in scene units."""
        T_scene_cam = invert(self.T_map_scene.to(T_map_cam.device)) @ T_map_cam.double()
        return pose(T_scene_cam[..., :3, :3], T_scene_cam[..., :3, 3] / self.scene_unit_m).float()

    def points_to_scene(self, points: Tensor) -> Tensor:
        """Map frame, metres -> scene units. [..., 3] -> [..., 3] float64."""
        T = self.T_map_scene.to(points.device)
        return (points.double() - T[:3, 3]) @ T[:3, :3] / self.scene_unit_m

    def points_to_map(self, points: Tensor) -> Tensor:
        """Scene units -> map frame, metres. [..., 3] -> [..., 3] float64."""
        T = self.T_map_scene.to(points.device)
        return points.double() * self.scene_unit_m @ T[:3, :3].T + T[:3, 3]

    def pose_to_scene(self, T_map_cam: Tensor) -> Tensor:
        """What the regressor should say: [..., 4, 4] -> T_scene_cam [..., 4, 4] float64, translation in pose units."""
        T_scene_cam = invert(self.T_map_scene.to(T_map_cam.device)) @ T_map_cam.double()
        return pose(T_scene_cam[..., :3, :3], T_scene_cam[..., :3, 3] / self.pose_unit_m)

    def pose_to_map(self, T_scene_cam: Tensor) -> Tensor:
        """What the regressor said, made rigid (networks.to_T) -> T_map_cam. Both [..., 4, 4], the result float64."""
        T_scene_cam = T_scene_cam.double()
        T_scene_cam = pose(T_scene_cam[..., :3, :3], T_scene_cam[..., :3, 3] * self.pose_unit_m)
        return self.T_map_scene.to(T_scene_cam.device) @ T_scene_cam
