"""Several captures with poses in one frame as one: the drives of a map."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.datasets.frame_file import read_frame
from aprloc_ros.training.datasets.sizes import shapes

_SAME = 0.5     # of the smaller one's images: a robot comes by, but never so
_DIGITS = 6     # of poses that went through a text file


def joined(captures: Sequence[Capture]) -> Capture:
    """All drives as one capture; a single one as it is.

    Frames and sequences have their drive's name before their own. Points that single captures bring are left out: no point
    of theirs was seen on two drives, which is what descriptors learn from. Raises AprlocError for a drive that is given
    twice, in a copy or a link too, and for drives of which one is in metres and another is not.
    """
    if len(captures) == 1:
        return captures[0]
    for capture, times in Counter(capture.root for capture in captures).items():
        if times > 1:
            raise AprlocError(f'{capture}: given as --data {times} times; each drive once')
    units = {capture.name: read_frame(capture.root).unit for capture in captures}
    if len(set(units.values())) > 1:
        raise AprlocError('the drives are in different units (' + ', '.join(f'{name}: {unit}' for name, unit in units.items())
                          + '), so not in one frame; pose their images together: aprloc pose')
    for capture, other in combinations(captures, 2):
        same = len(_places(capture) & _places(other))
        if same > _SAME * min(len(each.train) + len(each.test) for each in (capture, other)):
            raise AprlocError(f'{capture.root} and {other.root} are one drive: {same} of their images have the same poses; each drive once')
    drives = tuple(_named(capture, name) for capture, name in zip(captures, _names(captures)))
    dropped = ('points that single drives bring are not used: they are triangulated anew, across the drives',)
    notes = [f'{drive.name}: {note}' for drive in drives for note in drive.notes]
    train, test = sum((drive.train for drive in drives), ()), sum((drive.test for drive in drives), ())
    return Capture('+'.join(drive.name for drive in drives), '+'.join(dict.fromkeys(drive.format for drive in drives)),
                   captures[0].root, train, test, drives=drives,
                   notes=(*notes, *shapes((*train, *test)), *(dropped if any(capture.points for capture in captures) else ())))


def by_drive(capture: Capture, frames: tuple[Frame, ...]) -> list[tuple[Capture, tuple[Frame, ...]]]:
    """Each drive of a capture, and those of the frames that are its own."""
    if not capture.drives:
        return [(capture, frames)]
    return [(drive, tuple(frame for frame in frames if frame.drive == drive.name)) for drive in capture.drives]


def own_name(frame: Frame) -> str:
    """Of a frame in its own drive."""
    return frame.name.removeprefix(f'{frame.drive}/')


def _names(captures: Sequence[Capture]) -> list[str]:
    """The captures' names, with a number where several have the same."""
    met, names = Counter(), []
    for capture in captures:
        met[capture.name] += 1
        names.append(capture.name if met[capture.name] == 1 else f'{capture.name}-{met[capture.name]}')
    return names


def _places(capture: Capture) -> set[bytes]:
    return {(frame.T_map_cam.numpy().round(_DIGITS) + 0.0).tobytes() for frame in (*capture.train, *capture.test)}   # no -0


def _named(capture: Capture, name: str) -> Capture:
    def renamed(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
        return tuple(replace(frame, name=f'{name}/{frame.name}', sequence=f'{name}/{frame.sequence}', drive=name)
                     for frame in frames)
    return replace(capture, name=name, train=renamed(capture.train), test=renamed(capture.test), points=None)
