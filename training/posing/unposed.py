"""What a map is built from, whether its images have poses yet or not."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, NoPoses
from aprloc_ros.training.datasets.drives import joined
from aprloc_ros.training.posing.sources.opening import is_source
from aprloc_ros.training.posing.workplace import fingerprint


def read_drives(paths: Sequence[Path], kept: Path, cache_dir: Path) -> Capture:
    """All drives as one capture; a single one gets poses where it has none.

    kept: folder for the posed capture, found again as long as the images are the same; cache_dir: for bags' images.
    """
    if len(paths) == 1:
        return read_or_pose(paths[0], kept, cache_dir)
    try:
        return joined([read_capture(path, cache_dir / str(number)) for number, path in enumerate(paths)])
    except NoPoses as error:
        raise AprlocError(f'{error}; drives of one map need poses in one frame: pose the images of all in one folder together, '
                          f'or build from the posed one and add the other with aprloc extend') from None


def read_or_pose(data: Path, kept: Path, cache_dir: Path, say=print) -> Capture:
    """The capture in `data`; where its images have no poses, they get them first. Folders as for read_drives."""
    try:
        return read_capture(data, cache_dir)
    except NoPoses:
        if not is_source(data):
            raise
    return read_capture(_posed(data, kept, say))


def _posed(data: Path, kept: Path, say) -> Path:
    from aprloc_ros.training.posing.pose import RECORD_FILE, pose  # with the plots of its report: not for all builds

    record = kept / RECORD_FILE
    if record.is_file() and json.loads(record.read_text())['request'] == fingerprint(data, None, 0):
        say(f'{data} has no poses: taking those that were found before, {kept}')
        return kept
    if os.environ.get('WORLD_SIZE', '1') != '1':
        raise AprlocError(f'{data} has no poses, and several processes cannot find them together; do it first: '
                          f'aprloc pose {typed(data)} --out CAPTURE')
    say(f'{data} has no poses: finding them by structure from motion, into {kept}')
    shutil.rmtree(kept, ignore_errors=True)
    return pose(data, kept, say=say)
