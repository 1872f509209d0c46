"""Scene normalisation, near and far, derived from a capture's poses and sparse depths."""

import torch
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import average_pose, pose
from aprloc_ros.scene import LENGTHS_M, SceneNormalisation
from aprloc_ros.training.structure.depths import SparseDepths

_NEAR_MARGIN, _FAR_MARGIN = 0.6, 1.25
_BOUNDS_MARGIN = 0.1


def derive(T_map_cam: Tensor, depths: SparseDepths) -> SceneNormalisation:
    """Poses [N, 4, 4] of the training frames and their sparse depths -> the scene frame, its units, near and far.

    The frame is that of the average pose (LLFF's recentring), the scene unit half the longest side of the box that
    holds the points and the cameras, the pose unit the cameras' RMS distance from their mean. AprlocError for lengths that no
    map can have: they are in no metres.
    """
    T_map_scene = average_pose(T_map_cam)
    R, origin = T_map_scene[:3, :3], T_map_scene[:3, 3]
    cameras = (T_map_cam[:, :3, 3] - origin) @ R
    quantiles = torch.tensor([0.005, 0.995], dtype=torch.float64)
    subset = depths.xyz[:: max(1, len(depths.xyz) // 200_000)]
    box = torch.quantile((subset - origin) @ R, quantiles, dim=0)
    box = torch.stack([torch.minimum(box[0], cameras.min(0).values), torch.maximum(box[1], cameras.max(0).values)])
    margin = _BOUNDS_MARGIN * (box[1] - box[0]).max()
    box = torch.stack([box[0] - margin, box[1] + margin])
    scene_unit_m = ((box[1] - box[0]).max() / 2).item()
    pose_unit_m = cameras.square().sum(-1).mean().sqrt().clamp_min(1e-3).item()
    near, far = torch.quantile(depths.depth_m[:: max(1, len(depths.depth_m) // 200_000)],
                               torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    lengths_m = scene_unit_m, pose_unit_m, near * _NEAR_MARGIN, far * _FAR_MARGIN
    if not LENGTHS_M[0] <= min(lengths_m) <= max(lengths_m) <= LENGTHS_M[1]:
        raise AprlocError(f'by its poses the place is {2 * scene_unit_m:.3g} m across, seen from {near:.3g} to {far:.3g} m away; a map '
                          f'has lengths from {LENGTHS_M[0]:g} to {LENGTHS_M[1]:g} m: in which unit are the positions?')
    return SceneNormalisation(pose(R, origin), scene_unit_m, pose_unit_m, near * _NEAR_MARGIN, far * _FAR_MARGIN,
                              box / scene_unit_m)
