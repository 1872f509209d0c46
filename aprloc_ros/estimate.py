"""What is said of one image: the pose, how sure it is, and why there may be none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.refinement.lens_evidence import offset_camera
from aprloc_ros.refinement.refined import OUT_OF_TIME, Refined

UNSURE = 'unsure'
OTHER_CAMERA = 'camera_info'   # one that contradicts the images
WARPED = 'warped'
ALIKE = 'alike'
_OF_THE_IMAGES = OTHER_CAMERA, WARPED, ALIKE, OUT_OF_TIME   # and not of what they show
_AMBIGUOUS = 0.05   # or less by which the best place is better than the next: they look alike
_MOVE_ON = 'another place of the map looks the same: the robot has to move on, or somebody to say where it is (initialpose)'
_TORN = 'it is torn: its lower rows are of another moment than the upper ones, as of a driver that overwrites an image while it is read'


@dataclass(frozen=True, eq=False)
class Estimate:
    """Where the camera is, and how sure that is."""

    T_map_cam: Tensor              # [4, 4] float64, OpenCV camera axes
    covariance: Tensor             # [6, 6] float64 of xi in T_true = T_map_cam @ exp(xi); x y z rx ry rz, m and rad
    status: str                    # 'prior' (no refiner), 'refined', 'prior_kept' or 'rejected': do not use the pose
    score: float                   # 0 to 1, 1 is best: the gate's, or how near the regressed 3x3 is to a rotation
    histogram: Tensor              # [10] float32, luminance of the query as the map's camera sees it
    timings_ms: dict[str, float]   # 'prepare', 'regress', 'refine' (with a refiner), 'total'
    T_prior: Tensor                # [4, 4] float64, of the regressor
    refined: Refined | None = None   # what the refiner said, whatever became of it
    refiner: str = 'none'            # that was asked
    remoteness: float = 0.0          # of the refined pose from the map's views, MapPoints.remoteness
    reason: str = ''                 # of a rejection: 'unsure', 'camera_info', 'warped', 'alike', 'out of time', 'out of iterations'
    text: str = ''                   # the same for the user, and what to do


def contradiction(declared: Camera, offsets: Tensor) -> str:
    """What to tell of a camera whose images ask for offsets [3] of refinement.lens_evidence."""
    seen = offset_camera(declared, offsets)
    return (f'the images say f {seen.fx:.0f}, centre {seen.cx:.0f} {seen.cy:.0f}; declared is f {declared.fx:.0f}, centre '
            f'{declared.cx:.0f} {declared.cy:.0f}: give the calibration of the mode that the camera is in')


def why_rejected(refined: Refined, status: str, score: float, took_ms: float) -> tuple[str, str]:
    """Reason and text of a rejection; empty for any other status."""
    if status != 'rejected':
        return '', ''
    if refined.status == OUT_OF_TIME:
        return OUT_OF_TIME, f'after {took_ms:.0f} ms: raise refine_ms, or a faster device'
    if refined.cut_short:
        return refined.status, (f'after {refined.iterations} the pose still moves: the map does not show what is in the image, or '
                                f'the parameter refine_iterations is set too low')
    return UNSURE, f'the map does not believe its own answer, of score {score:.3f}'


def why_mostly(rejections: Sequence[tuple[str, str]]) -> str:
    """What the rejected images of a drive, of which these are the reasons and texts, are mostly rejected for; empty where the map does
    not know what they show."""
    named = [rejection for rejection in rejections if rejection[0] in _OF_THE_IMAGES]
    if 2 * len(named) <= len(rejections):
        return ''
    reason, count = Counter(reason for reason, _ in named).most_common(1)[0]
    return f'{count} are rejected for {reason}: {next(text for each, text in named if each == reason)}'


def minding_the_image(estimate: Estimate, scale: float, is_expected: bool) -> Estimate:
    """A refined estimate, rejected where another place explains its image as well, or where that is not what a camera sees at once;
    else as uncertain as the doubt of that makes it.

    scale: factor on the standard deviations that its residuals promise; is_expected: somebody knew where to look.
    """
    refined = estimate.refined
    if not is_expected and refined.signals.get('agreement', 1.0) <= _AMBIGUOUS:
        return replace(estimate, status='rejected', reason=ALIKE, text=_MOVE_ON)
    if refined.is_torn:
        return replace(estimate, status='rejected', reason=WARPED, text=_TORN)
    if refined.warp is None:
        return estimate
    warp = refined.warp.joined(refined.patch_warp, scale)
    if warp.problem:
        return replace(estimate, status='rejected', reason=WARPED, text=warp.problem)
    return replace(estimate, covariance=warp.widened(estimate.covariance))
