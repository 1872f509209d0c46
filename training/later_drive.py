"""A drive that a map is to learn from: read, posed where nobody has, and compared with what the map says of it."""

from pathlib import Path

from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.scoring.evaluation import FrameRecord, evaluate_map
from aprloc_ros.scoring.truth_check import check_drive
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame, NoPoses
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.own_frames import check_new
from aprloc_ros.training.posing.by_map import not_known, pose_by_map
from aprloc_ros.training.posing.sources.opening import is_source

_ASKED = 60
_FEWEST_BELIEVED = 10
MOST_FAR = 0.2   # share of the believed answers that may contradict the drive's poses


def read_drive(data: Path, bundle: MapBundle, folder: Path, device: str, say) -> Capture:
    """The drive, its images extracted into the folder; where they have no poses, the map gives them some, and it lies there."""
    try:
        return read_capture(data, folder / 'images')
    except NoPoses:
        if not is_source(data):
            raise
    folder.mkdir(parents=True, exist_ok=True)
    return read_capture(pose_by_map(bundle, data, folder / Path(data).resolve().name, device, say))


def ask_some(bundle: MapBundle, frames: tuple[Frame, ...], device: str) -> list[FrameRecord]:
    """The map's answers to some of the frames, evenly chosen."""
    return evaluate_map(Localizer(bundle, device), [frames[index] for index in evenly(len(frames), _ASKED)])


def check_belongs(bundle: MapBundle, drive: Capture, device: str) -> str:
    """What the map says of the drive's poses.

    Raises AprlocError where they contradict it, where it knows nothing of the drive, and where the drive taught it already: a copy
    in another folder or format, whose images would calibrate what they have trained.
    """
    check_new(bundle, drive)
    records = ask_some(bundle, drive.train, device)
    believed = sum(record.status == 'refined' for record in records)
    if believed < min(_FEWEST_BELIEVED, len(records) / 2):
        rejections = [(record.reason, record.text) for record in records if record.status == 'rejected']
        raise AprlocError(not_known(drive.name, believed, len(records), rejections))
    text = check_drive(records, bundle.manifest, MOST_FAR)
    if text.startswith('WARNING'):
        raise AprlocError(f'{text.removeprefix("WARNING: ")}: a map learns from poses in its own frame alone')
    return text
