"""What a build stands on: poses that agree with the images, points, and what points say of lenses and depth images."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.lens import Lens
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.checks.depth_unit import depth_factor
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.parsing import in_order
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.structure.triangulation import TooFewPoints, triangulate


@dataclass(frozen=True, eq=False)
class Foundation:
    """Of the frames that train."""

    points: SparsePoints
    reason: str                # why there are no points
    lenses: tuple[Lens, ...]   # of cameras that are not as the capture declares
    depth_factor: float        # on the depth images' declared unit

    def known(self, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
        """The frames with what is known of their cameras and depth images."""
        found = with_lenses(frames, self.lenses)
        return tuple(replace(frame, depth_unit_m=self.depth_factor * frame.depth_unit_m) for frame in found)

    def to_list(self) -> list:
        """What torch.load takes without executing anything."""
        return [self.points.xyz, self.points.observations, self.reason, to_mapping(list(self.lenses)), self.depth_factor]

    @classmethod
    def from_list(cls, stored: list) -> 'Foundation':
        xyz, observations, reason, lenses, factor = stored
        return cls(SparsePoints(xyz, observations), reason, tuple(from_mapping(Lens, lens, 'lens') for lens in lenses), factor)


def find_foundation(capture: Capture, fit: tuple[Frame, ...], work_dir: Path, max_frames: int, say) -> Foundation:
    """The capture's own points, or points triangulated and lenses fitted. fit: the frames of capture.train that train.

    Raises AprlocError for what contradicts itself: poses, lenses or depth images that the images do not bear out.
    """
    say('poses: comparing them with pairs of images')
    agreement = check_poses(fit, in_order((*capture.train, *capture.test)), capture.mounts)
    say(agreement.text)
    lenses, reason = (), ''
    if capture.points is not None:   # a capture that brings points of its own knows its cameras
        points = _points_of(fit, capture)
        say(f'points: the capture\'s {len(points.xyz)}')
    else:
        try:
            found = triangulate(fit, work_dir / 'colmap', max_frames, say, agreement.verified)
            points, lenses = found.points, found.lenses
        except TooFewPoints as error:
            points, reason = SparsePoints(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 2, dtype=torch.long)), str(error)
    factor = 1.0
    if any(frame.depth_path for frame in fit):
        factor = depth_factor(with_lenses(fit, lenses), points, say)
    return Foundation(points, reason, lenses, factor)


def _points_of(fit: tuple[Frame, ...], capture: Capture) -> SparsePoints:
    """The capture's points with their observations renumbered to the fit frames."""
    position = {frame.name: index for index, frame in enumerate(fit)}
    renumbered = torch.tensor([position.get(frame.name, -1) for frame in capture.train])
    frame = renumbered[capture.points.observations[:, 0]]
    kept = torch.stack([frame, capture.points.observations[:, 1]], 1)[frame >= 0]
    return SparsePoints(capture.points.xyz, kept)
