"""`aprloc align`: an existing map in the frame of a trajectory of the robot, without training."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.moved_map import move_map
from aprloc_ros.placement.aligned import Alignment
from aprloc_ros.placement.alignment import FEWEST, align, planar
from aprloc_ros.recordings.bag_images import camera_frame, read_images
from aprloc_ros.recordings.bag_messages import ODOMETRY, POSE, POSE_WITH_COVARIANCE
from aprloc_ros.recordings.recording import Recording, open_recording
from aprloc_ros.recordings.skipped import Skipped
from aprloc_ros.recordings.trajectory import Trajectory
from aprloc_ros.recordings.truth import TF_WORD, read_tf, read_topic
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.formats import bag
from aprloc_ros.training.datasets.formats.bag_topics import chosen_topics
from aprloc_ros.training.datasets.trajectory import read_tum_trajectory
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.posing.metres.clocks import clock_offset
from aprloc_ros.training.resumption import claim

_IMAGES = 200      # that are localised, evenly over those that the trajectory knows
_GAP_S = 0.5       # longest pause between two poses that is interpolated
_NEAR_S = 0.02     # AMCL speaks seldom: an image so near to one of its poses was taken there
_BASE = 'base_link'
_BETTER = 0.6       # metres times degrees by which half of the poses are off
_STILL = 1e-6       # of a mount, in metres or of its rotation matrix


@dataclass(frozen=True, eq=False)
class _Photo:
    """An image that the map is asked about."""

    stamp_s: float
    pixels: np.ndarray        # [H, W, 3] uint8 RGB
    camera: Camera | None     # None: the map's own


@dataclass(frozen=True, eq=False)
class _Way:
    """Where a body was. T_cam_body [4, 4]: where it sits on the camera, None: nobody says."""

    source: str
    trajectory: Trajectory
    T_cam_body: Tensor | None

    def at(self, stamps_s: Tensor) -> tuple[Tensor, Tensor]:
        """[M] -> poses [M, 4, 4] and whether each is known [M] (bool)."""
        poses, known = self.trajectory.at(stamps_s, _GAP_S)
        off_s, nearest = (stamps_s[:, None] - self.trajectory.stamps_s).abs().min(1)
        near = ~known & (off_s < _NEAR_S)
        return torch.where(near[:, None, None], self.trajectory.T_a_b[nearest], poses), known | near


def align_map(directory: Path, to: str, data: Path, with_scale: bool, device: str = 'auto', say=print) -> Alignment:
    """Put a map into the frame of a trajectory: a TUM file, or a topic or `tf` of the bag `data`, whose images (or those of a
    capture) the map localises. Raises AprlocError, and leaves the map as it was, where they do not fit.
    """
    claim(directory)
    bundle = load_map(directory, device)
    with ExitStack() as stack:
        if bag.recognises(data):
            recording = stack.enter_context(open_recording(data))
            photos, way, notes = *_of_bag(recording, to), recording.notes
        else:
            photos, way, notes = *_of_capture(data, to), ()
        say(f'{len(photos)} images, {way.source}, ' + ('of a body somewhere on the robot' if way.T_cam_body is None else
                                                       'whose place on the camera is known'))
        T_map_cam, stamps_s = _localised(bundle, photos, way, device, say)
    for note in notes:
        say(note)
    found = _aligned(T_map_cam, stamps_s, way, with_scale, say)
    say(found.describe())
    if bundle.manifest.frame.geodetic:
        say('where the map lies on Earth is not kept: its axes are not east and north any more')
    move_map(directory, found.change)
    return found


def _aligned(T_map_cam: Tensor, stamps_s: Tensor, way: _Way, with_scale: bool, say) -> Alignment:
    """By the clock of the trajectory, or by another one where the movements say so and the poses then fit far better."""
    offset_s, _ = clock_offset(stamps_s, T_map_cam, way.trajectory, _GAP_S)
    if not offset_s:
        return _by_clock(T_map_cam, stamps_s, way, with_scale)
    with suppress(AprlocError):   # what does not fit by another clock says nothing
        moved = _by_clock(T_map_cam, stamps_s + offset_s, way, with_scale)
        try:
            plain = _by_clock(T_map_cam, stamps_s, way, with_scale)
        except AprlocError as error:
            plain, without = None, str(error)
        else:
            without = f'half of the poses would be off by more than {plain.off_m:.3f} m or {plain.off_deg:.1f} degrees'
        if plain is None or moved.off_m * moved.off_deg < _BETTER * plain.off_m * plain.off_deg:
            say(f'WARNING: {way.source}: its clock is {offset_s:+.2f} s from that of the images, which was taken into account; without '
                f'that {without}. Mend it on the robot too: by these stamps its poses and its images do not belong together')
            return moved
    return _by_clock(T_map_cam, stamps_s, way, with_scale)


def _by_clock(T_map_cam: Tensor, stamps_s: Tensor, way: _Way, with_scale: bool) -> Alignment:
    T_new_body, known = way.at(stamps_s)
    return align(T_map_cam[known], T_new_body[known], way.T_cam_body, with_scale, way.source)


class _Photos:
    """Images by their stamps, read one at a time."""

    def __init__(self, stamps_s: list[float], read):
        """read: called with ascending indices, yields a _Photo of each."""
        self.stamps_s, self._read = torch.tensor(stamps_s, dtype=torch.float64), read

    def __len__(self) -> int:
        return len(self.stamps_s)

    def chosen(self, indices: Tensor) -> Iterator[_Photo]:
        return self._read(set(indices.tolist()))


def _localised(bundle: MapBundle, photos: _Photos, way: _Way, device: str, say) -> tuple[Tensor, Tensor]:
    """Poses in the map [N, 4, 4] of images that the trajectory knows, and their stamps [N], in the order of time."""
    known = way.at(photos.stamps_s)[1].nonzero()[:, 0]
    if len(known) < FEWEST:
        raise AprlocError(f'{way.source} knows only {len(known)} of the {len(photos)} images (from {_span(photos.stamps_s)}; '
                          f'the trajectory is from {_span(way.trajectory.stamps_s)}): their clocks must be the same')
    chosen = known[evenly(len(known), _IMAGES)]
    localizer, found = Localizer(bundle, device), []
    for photo in photos.chosen(chosen):
        estimate = localizer.localize(photo.pixels, photo.camera)
        if estimate.status in ('refined', 'prior'):
            found.append((photo.stamp_s, estimate.T_map_cam))
    say(f'the map knows {len(found)} of {len(chosen)} images')
    if len(found) < FEWEST:
        raise AprlocError(f'the map knows only {len(found)} of {len(chosen)} images (at least {FEWEST}): are they of this '
                          'place and of a camera that it knows?')
    found.sort(key=lambda item: item[0])
    return torch.stack([T for _, T in found]), torch.tensor([stamp_s for stamp_s, _ in found], dtype=torch.float64)


def _span(stamps_s: Tensor) -> str:
    return f'{stamps_s.min():.3f} to {stamps_s.max():.3f} s'


def _of_capture(data: Path, to: str) -> tuple[_Photos, _Way]:
    capture = read_capture(data)
    frames = (*capture.train, *capture.test)
    stamps_s = [_stamp(frame.stamp_s, frame.name) for frame in frames]

    def read(indices: set[int]) -> Iterator[_Photo]:
        return (_Photo(stamps_s[i], frames[i].read_image(), frames[i].camera) for i in sorted(indices))

    if not Path(to).is_file():
        raise AprlocError(f'{to}: no such file; --to takes a TUM file, or with --data BAG one of its topics or {TF_WORD}')
    return _Photos(stamps_s, read), _Way(f'trajectory {to}', read_tum_trajectory(Path(to)), None)


def _stamp(stamp_s: float | None, name: str) -> float:
    """Of a capture's image; where it has none, the number at the end of its name, as in frame-000123."""
    if stamp_s is not None:
        return stamp_s
    digits = Path(name).stem[len(Path(name).stem.rstrip('0123456789')):]
    if not digits:
        raise AprlocError(f'image {name} has neither a stamp nor a number in its name that a trajectory could be of')
    return float(digits)


def _of_bag(recording: Recording, to: str) -> tuple[_Photos, _Way]:
    topics = chosen_topics(recording, read_choice(recording.path))
    images = read_images(recording, topics)
    stamps_s = [image.stamp_ns / 1e9 for image in images]

    def read(indices: set[int]) -> Iterator[_Photo]:
        skipped = Skipped('images', len(indices))
        for image in read_images(recording, topics):
            if image.index in indices:
                try:
                    photo = _Photo(image.stamp_ns / 1e9, image.pixels(), image.camera())
                except AprlocError as error:
                    skipped.add('image', f'{image.where}: {error}')
                else:
                    yield photo
        recording.note(skipped.summary())

    return _Photos(stamps_s, read), _way_of_bag(recording, to, camera_frame(recording, topics), stamps_s)


def _way_of_bag(recording: Recording, to: str, frame: str, stamps_s: Iterable[float]) -> _Way:
    tree = read_tf(recording)
    if to == TF_WORD:
        *_, root = tree.ancestors(frame)
        if not tree.moves(root, frame):
            raise AprlocError(f'{recording.path}: TF does not move the image frame {frame!r}')
        stamps = torch.tensor(sorted(stamps_s), dtype=torch.float64)
        poses, known = tree.lookup(root, frame, stamps, _GAP_S)
        if not known.any():
            raise AprlocError(f'{recording.path}: TF says nothing of {frame!r} at the stamps of the images')
        return _Way(f'TF of {frame} in {root}', Trajectory(stamps[known], poses[known]), torch.eye(4, dtype=torch.float64))
    if Path(to).is_file():
        trajectory, body = read_tum_trajectory(Path(to)), ''
    else:
        topic = recording.named(to, (POSE, POSE_WITH_COVARIANCE, ODOMETRY), f'topic of poses (nor a TUM file, nor {TF_WORD})')
        trajectory, body = read_topic(recording, topic)
    # Who localises in the plane does so for the base; what moves in all directions may as well be the camera itself.
    body = body or (_BASE if planar(trajectory.T_a_b) else '')
    if not (body and tree.connects(body, frame)):
        return _Way(f'trajectory {to}', trajectory, None)
    T_body_cam, mounted = tree.lookup(body, frame, trajectory.stamps_s, _GAP_S)
    if not mounted.any():
        return _Way(f'trajectory {to}', trajectory, None)
    mounts = T_body_cam[mounted]
    if torch.allclose(mounts, mounts[:1], rtol=0, atol=_STILL):
        return _Way(f'trajectory {to} of {body}', trajectory, invert(mounts[0]))
    moved = Trajectory(trajectory.stamps_s[mounted], trajectory.T_a_b[mounted] @ mounts)   # it pans or tilts: the camera's own way
    return _Way(f'trajectory {to} of {body}, on which {frame} moves', moved, torch.eye(4, dtype=torch.float64))
