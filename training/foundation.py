"""What a build stands on: poses that agree with the images, points, and what points say of lenses and depth images."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.lens import Lens
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.checks.depth_unit import depth_factor
from aprloc_ros.training.checks.one_frame import check_one_frame
from aprloc_ros.training.checks.speed import too_fast
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.drives import by_drive
from aprloc_ros.training.datasets.parsing import in_order
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.structure.sightings import across_drives
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
    verified = _check_poses(capture, fit, say)
    lenses, reason = (), ''
    if capture.points is not None:   # a capture that brings points of its own knows its cameras
        points = _points_of(fit, capture)
        say(f'points: the capture\'s {len(points.xyz)}')
    else:
        try:
            found = triangulate(fit, work_dir / 'colmap', max_frames, say, verified)
            points, lenses = _across(fit, found.points, say), found.lenses
        except TooFewPoints as error:
            points, reason = SparsePoints(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, 2, dtype=torch.long)), str(error)
    factor = 1.0
    if any(frame.depth_path for frame in fit):
        factor = depth_factor(with_lenses(fit, lenses), points, say)
    return Foundation(points, reason, lenses, factor)


def _check_poses(capture: Capture, fit: tuple[Frame, ...], say) -> bool:
    """Whether the poses are known to agree with the images, of every drive and across them."""
    drives = by_drive(capture, fit)
    taken = [in_order((*drive.train, *drive.test)) for drive, _ in drives]
    agreements = [check_poses(frames, all_frames, drive.mounts) for (drive, frames), all_frames in zip(drives, taken)]
    for (drive, _), all_frames, agreement in zip(drives, taken, agreements):
        for text in filter(None, (agreement.text, too_fast(all_frames))):
            say(f'{drive.name}: {text}' if capture.drives else text)
    matched = [drive for drive, agreement in zip(drives, agreements) if agreement.compared]
    for line in check_one_frame(matched) if matched else ():
        say(line)
    return all(agreement.verified for agreement in agreements)


def _across(fit: tuple[Frame, ...], points: SparsePoints, say) -> SparsePoints:
    """With what the frames of each drive must see of the points of the others."""
    if len({frame.drive for frame in fit}) < 2:
        return points
    more = across_drives(fit, points)
    say(f'points across drives: {_share_across(fit, points):.0%} of them have tracks on several, '
        f'{_share_across(fit, more):.0%} are seen from there')
    return more


def _share_across(fit: tuple[Frame, ...], points: SparsePoints) -> float:
    """Of the points, those that frames of more than one drive see."""
    numbers = {drive: number for number, drive in enumerate(dict.fromkeys(frame.drive for frame in fit))}
    drive = torch.tensor([numbers[frame.drive] for frame in fit])
    seen = torch.zeros(len(points.xyz), len(numbers), dtype=torch.bool)
    seen[points.observations[:, 1], drive[points.observations[:, 0]]] = True
    return (seen.sum(1) > 1).double().mean().item()


def _points_of(fit: tuple[Frame, ...], capture: Capture) -> SparsePoints:
    """The capture's points with their observations renumbered to the fit frames."""
    position = {frame.name: index for index, frame in enumerate(fit)}
    renumbered = torch.tensor([position.get(frame.name, -1) for frame in capture.train])
    frame = renumbered[capture.points.observations[:, 0]]
    kept = torch.stack([frame, capture.points.observations[:, 1]], 1)[frame >= 0]
    return SparsePoints(capture.points.xyz, kept)
