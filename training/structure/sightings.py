"""Points that a view must see though nothing matched them there: views of other drives saw them along nearly the same rays.

Light that changes hides matches from SIFT, not points from a camera whose pose is known.
"""

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.geometry import invert, so3_log
from aprloc_ros.training.datasets.capture import Frame, SparsePoints

_VIEWS = 8            # that look most alike
_RAY_RAD = 0.09       # between the rays of two views to a point that both see: what hides it from one hides it from the other
_NEARER = 1.25        # ratio of the distances
_MOST = 300           # points of a view: about as many as SIFT gives it


class Sightings:
    """What V views of a place saw of its points."""

    def __init__(self, xyz: Tensor, T_map_cam: Tensor, seen: list[Tensor]):
        """xyz [P, 3] float64, T_map_cam [V, 4, 4] of the views, seen: the points of each."""
        self._xyz, self._T, self._seen = xyz, T_map_cam, seen
        self._depth_m = torch.tensor([(xyz[points] - T[:3, 3]).norm(dim=1).median() if len(points) else torch.nan
                                      for points, T in zip(seen, T_map_cam)], dtype=torch.float64)
        self._views_of = torch.bincount(torch.cat(seen), minlength=len(xyz))

    def visible(self, T_map_cam: Tensor, camera: Camera) -> Tensor:
        """Points [N], ascending, that a camera at a pose [4, 4] must see: those that most views saw, where they are many."""
        far = ((self._T[:, :3, 3] - T_map_cam[:3, 3]).norm(dim=1) / self._depth_m
               + so3_log(self._T[:, :3, :3].mT @ T_map_cam[:3, :3]).norm(dim=1)).nan_to_num(torch.inf)
        near = far.topk(min(_VIEWS, len(far)), largest=False).indices.tolist()
        found = [self._along_the_same_rays(view, T_map_cam) for view in near if torch.isfinite(far[view])]
        points = torch.cat(found).unique() if found else torch.zeros(0, dtype=torch.int64)
        T = invert(T_map_cam)
        _, inside = camera.without_distortion().project(self._xyz[points] @ T[:3, :3].T + T[:3, 3])
        points = points[inside]
        return points[self._views_of[points].argsort(descending=True, stable=True)[:_MOST]].sort().values

    def _along_the_same_rays(self, view: int, T_map_cam: Tensor) -> Tensor:
        points = self._seen[view]
        one, other = (self._xyz[points] - centre for centre in (self._T[view, :3, 3], T_map_cam[:3, 3]))
        one_m, other_m = one.norm(dim=1).clamp_min(1e-9), other.norm(dim=1).clamp_min(1e-9)
        angle_rad = torch.acos(((one * other).sum(1) / (one_m * other_m)).clamp(-1, 1))
        return points[(angle_rad < _RAY_RAD) & ((one_m / other_m).log().abs() < torch.tensor(_NEARER).log())]


def across_drives(frames: tuple[Frame, ...], points: SparsePoints) -> SparsePoints:
    """The points with the observations that frames of one drive make of points of the others, as far as these are sure.

    Only frames that see points of their own drive: a map has no more views than were triangulated.
    """
    seen = [points.observations[points.observations[:, 0] == frame, 1].unique() for frame in range(len(frames))]
    T_map_cam, added = torch.stack([frame.T_map_cam for frame in frames]), []
    for drive in dict.fromkeys(frame.drive for frame in frames):
        others = [index for index, frame in enumerate(frames) if frame.drive != drive and len(seen[index])]
        if not others:
            continue
        known = Sightings(points.xyz, T_map_cam[others], [seen[index] for index in others])
        for index, frame in enumerate(frames):
            if frame.drive == drive and len(seen[index]):
                more = known.visible(frame.T_map_cam, frame.camera)
                more = more[~torch.isin(more, seen[index])]
                added.append(torch.stack([torch.full_like(more, index), more], 1))
    return SparsePoints(points.xyz, torch.cat([points.observations, *added]))
