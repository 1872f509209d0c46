"""The map's points: where they are, their descriptors, and which views saw which."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_log
from aprloc_ros.patches import Patches, pack_patches, unpack_patches
from aprloc_ros.similarity import Similarity, unchanged

FARTHEST = 10.0           # remoteness that is as good as any larger one
_DESCRIPTOR_STEPS = 127   # descriptors are stored as int8: components of unit vectors
_POSITION_STEPS = 32767   # positions as int16 of the half extent: a hundredth of a millimetre in a room


@dataclass(frozen=True, eq=False)
class MapPoints:
    """P points with a coarse and a fine descriptor each, and the V views of the place that saw them."""

    xyz: Tensor            # [P, 3] float64, map frame, metres
    coarse: Tensor         # [P, Cc] float32, unit length
    fine: Tensor           # [P, Cf] float32, unit length
    view_poses: Tensor     # [V, 4, 4] float64, T_map_cam
    view_offsets: Tensor   # [V + 1] int64
    view_points: Tensor    # [M] int64: view v saw points view_points[view_offsets[v]:view_offsets[v + 1]]
    patches: Patches | None = None   # None: a map of before there were any

    def __len__(self) -> int:
        return len(self.xyz)

    def of_view(self, view: int) -> Tensor:
        """Indices of the points that a view saw."""
        return self.view_points[self.view_offsets[view]:self.view_offsets[view + 1]]

    @property
    def view_of(self) -> Tensor:
        """The view that each of view_points is of: [M] int64."""
        return torch.repeat_interleave(torch.arange(len(self.view_poses)), self.view_offsets.diff())

    def remoteness(self, T_map_cam: Tensor) -> float:
        """Of a camera at a pose [4, 4] from the view that saw the place most alike; FARTHEST at most."""
        return min([FARTHEST, *self.remoteness_of_views(T_map_cam).tolist()])

    @cached_property
    def _view_depths_m(self) -> Tensor:
        """Median distance of the points that each view saw, [V]; infinite for a view without any."""
        seen = [self.xyz[self.of_view(view)] for view in range(len(self.view_poses))]
        return torch.tensor([(xyz - T[:3, 3]).norm(dim=1).median().item() if len(xyz) else torch.inf
                             for xyz, T in zip(seen, self.view_poses)], dtype=torch.float64)

    def remoteness_of_views(self, T_map_cam: Tensor) -> Tensor:
        """How differently each view saw the place from a camera at a pose [4, 4]: [V], about an angle in radians.

        The way between them over the distance of what the view saw, which is the angle by which that moves, plus the angle
        between the two orientations.
        """
        way_m = (self.view_poses[:, :3, 3] - T_map_cam[:3, 3]).norm(dim=1)
        return way_m / self._view_depths_m + so3_log(self.view_poses[:, :3, :3].mT @ T_map_cam[:3, :3]).norm(dim=1)


def position_among(kept: Tensor, count: int) -> Tensor:
    """Of each of so many things its position among those that are kept [K], -1 for one that is left out: [count]."""
    position = torch.full((count,), -1)
    position[kept] = torch.arange(len(kept))
    return position


def pack_points(points: MapPoints) -> dict[str, Tensor]:
    """Tensors for a file: a tenth of the size in memory."""
    low, high = points.xyz.amin(0), points.xyz.amax(0)
    centre, half_extent_m = (low + high) / 2, ((high - low) / 2).clamp_min(1e-6)
    counts = points.view_offsets.diff()
    index_type = torch.int16 if len(points) <= 2 ** 15 else torch.int32
    return {'centre': centre, 'half_extent_m': half_extent_m,
            'xyz': ((points.xyz - centre) / half_extent_m * _POSITION_STEPS).round().to(torch.int16),
            'coarse': _quantised(points.coarse), 'fine': _quantised(points.fine),
            'view_poses': points.view_poses[:, :3].contiguous(),   # in double: a survey's coordinates are millions of metres
            'view_counts': counts.to(torch.int32), 'view_points': points.view_points.to(index_type),
            **({} if points.patches is None else pack_patches(points.patches, centre))}


def move_packed(tensors: dict[str, Tensor], change: Similarity) -> dict[str, Tensor]:
    """The tensors of a file whose map frame is another one now: the change is kept beside them, so that nothing is rounded
    a second time.
    """
    change = change.after(_change(tensors))
    return {**tensors, 'frame_scale': torch.tensor([change.scale], dtype=torch.float64),
            'frame_rotation': change.rotation.contiguous(), 'frame_translation': change.translation.contiguous()}


def _change(tensors: dict[str, Tensor]) -> Similarity:
    """From the frame of the numbers to the map's."""
    if 'frame_scale' not in tensors:
        return unchanged()
    return Similarity(tensors['frame_scale'].item(), tensors['frame_rotation'], tensors['frame_translation'], 0.0, '')


def unpack_points(tensors: dict[str, Tensor], where: str) -> MapPoints:
    """The inverse of pack_points, up to quantisation. Raises AprlocError, which begins with `where`, for anything else."""
    try:
        xyz = tensors['xyz'].double() / _POSITION_STEPS * tensors['half_extent_m'] + tensors['centre']
        poses = tensors['view_poses'].double()
        bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(len(poses), 1, 4)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), tensors['view_counts'].long().cumsum(0)])
        found = MapPoints(xyz, *(_unit(tensors[key]) for key in ('coarse', 'fine')), torch.cat([poses, bottom], 1),
                          offsets, tensors['view_points'].long())
        change = _change(tensors)
    except (KeyError, RuntimeError, IndexError, AprlocError) as error:
        raise AprlocError(f'{where}: not the points of a map ({str(error).splitlines()[0]})') from None
    found = _checked(found, where)
    patches = unpack_patches(tensors, tensors['centre'], len(found), len(found.view_poses), where)
    return replace(found, xyz=change.points(found.xyz), view_poses=change.apply(found.view_poses),
                   patches=patches and patches.moved(change))


def _quantised(unit: Tensor) -> Tensor:
    return (unit * _DESCRIPTOR_STEPS).round().to(torch.int8)


def _unit(quantised: Tensor) -> Tensor:
    return F.normalize(quantised.float(), dim=1)


def _checked(points: MapPoints, where: str) -> MapPoints:
    count, views = len(points.xyz), len(points.view_poses)
    shapes_fit = (points.xyz.shape == (count, 3) and len(points.coarse) == len(points.fine) == count
                  and points.view_poses.shape == (views, 4, 4) and len(points.view_offsets) == views + 1)
    if not shapes_fit or not torch.isfinite(points.xyz).all() or not torch.isfinite(points.view_poses).all():
        raise AprlocError(f'{where}: the points and views of the map do not fit together, or are not finite')
    indices_fit = (points.view_offsets.diff() >= 0).all() and points.view_offsets[-1] == len(points.view_points)
    if not indices_fit or ((points.view_points < 0) | (points.view_points >= count)).any():
        raise AprlocError(f'{where}: a view refers to points that are not in the map')
    return points
