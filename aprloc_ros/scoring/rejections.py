"""A replay that answered nothing: why, the worst pictures beside what the map expected there, and what to do next."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from aprloc_ros.errors import AprlocError
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.recordings.bag_images import BagImage
from aprloc_ros.scoring.comparison import compare_views
from aprloc_ros.scoring.figures import picture_sheet, spread_out
from aprloc_ros.scoring.replay import ReplayedFrame
from aprloc_ros.scoring.verdict import Verdict

SHOWN = 6   # frames whose pictures are on the page
NOT_FOUND = ('the images show nothing that the map has: another place, another light, or views that it never saw. Look at the '
             'pictures; record this stretch and build again, or check that camera and map are the right ones')
ADVICE = {
    'unsure': NOT_FOUND, 'out of iterations': NOT_FOUND,
    'camera_info': 'the calibration is not that of these images: name its topic with --camera-info, or calibrate this mode of the '
                   'camera',
    'warped': 'the images are not what their camera sees at once: resized to another aspect, of another distortion, torn, or read row by '
              'row while the camera turned fast. Give them as the camera makes them, with its calibration; turn more slowly',
    'alike': 'places that look alike: a bag that begins where there is no other such place, and odometry, tell them apart',
    'image': 'the images show nothing or cannot be read: look at one of them, and at the lens',
    'localizer': "the images are not of the map's camera: name the topic of their calibration with --camera-info",
    'extrinsics': 'TF does not say where the camera sits: record /tf_static, or name another --base-frame',
    'stamp': 'the images have no stamps that increase: mend the driver, record again',
    'jump': 'the answers contradict each other or the odometry: two places that look alike, or odometry of another unit; try with '
            'a bag without odometry',
    'stuck': 'the recording repeats an image while the robot drives on: mend the driver, record again',
    'out of time': 'the machine is too slow for the pace: leave --realtime out'}


def rejection_verdict(frames: Sequence[ReplayedFrame]) -> Verdict:
    """Of frames none of which was answered: a failed check for each reason, the most frequent first."""
    counts = Counter(frame.reason for frame in frames if frame.reason)
    texts = {frame.reason: frame.text for frame in reversed(frames)}
    checks = {f'{count} of {len(frames)} frames rejected, {reason}: {texts[reason]}': False
              for reason, count in counts.most_common()}
    return Verdict(checks or {'the recording holds no image': False}, failed='no frame was answered')


def what_to_do(frames: Sequence[ReplayedFrame]) -> dict[str, str]:
    """Name -> text for the facts: what to do about each reason, the most frequent first."""
    counts = Counter(frame.reason for frame in frames if frame.reason)
    return {f'what to do about “{reason}”': ADVICE.get(reason, 'see docs/troubleshooting.md')
            for reason, _ in counts.most_common()}


def rejected_frames(frames: Sequence[ReplayedFrame]) -> list[ReplayedFrame]:
    """The ones to show: the least believed, no two of them neighbours in a long recording."""
    readable = [frame for frame in frames if frame.reason and frame.is_readable]
    return spread_out(readable, lambda frame: frame.estimate.score if frame.estimate else 0.0, SHOWN)


def rejected_figure(frames: Iterable[ReplayedFrame], images: Mapping[str, BagImage], bundle: MapBundle) -> Figure | None:
    """A row for each frame: the image, what the map expected at its answer, and where they differ.

    images: by the names of the frames. None where no image can be shown.
    """
    rows = []
    for frame in frames:
        try:
            rows.append((f'{frame.name[-28:]}\n{_doubt(frame)}', _views(frame, images[frame.name], bundle)))
        except AprlocError:   # what cannot be decoded cannot be shown
            continue
    return picture_sheet(rows) if rows else None


def _doubt(frame: ReplayedFrame) -> str:
    return f'{frame.reason}, score {frame.estimate.score:.2f}' if frame.estimate else frame.reason


def _views(frame: ReplayedFrame, image: BagImage, bundle: MapBundle) -> dict[str, np.ndarray]:
    pixels = image.pixels()
    if frame.estimate is None:
        return {'query': pixels}
    views = compare_views(bundle, pixels, image.camera(), frame.estimate.T_map_cam)
    return dict(zip(('query', 'what the map expected there', 'overlay: query red, map cyan', 'difference'), views.values(),
                    strict=True))
