"""Matches of pairs of images in COLMAP's database, the same on any number of cores.

A crew of processes of one thread each matches them in parts, and the parts are written in the order of the pairs. (On two
threads of one process the same descriptors gave other matches in 11 of 1,185 runs on twenty small images beside other work, on
one in none of 252.)
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.training.hardware import usable_cores
from aprloc_ros.training.structure.crew import crew
from aprloc_ros.training.structure.part import match_part, take_part, write_part
from aprloc_ros.training.structure.space import room_for

_PAIRS_AT_ONCE = 64   # some seconds: so often it shows how far it is


def match(pycolmap, database: Path, pairs: Sequence[tuple[str, str]], what: str = 'matching'):
    """Matches of pairs of images by name that a two-view geometry confirms, into the database; pairs done are skipped."""
    with room_for(0, database.parent), pycolmap.Database.open(database) as stored:
        images = {image.name: image for image in stored.read_all_images()}
        number = {name: image.image_id for name, image in images.items()}
        todo = [(a, b) for a, b in pairs if not stored.exists_two_view_geometry(number[a], number[b])]
        parts = [todo[start:start + _PAIRS_AT_ONCE] for start in range(0, len(todo), _PAIRS_AT_ONCE)]
        with (_matcher(pycolmap, min(usable_cores(), len(parts))) as matched,
              tempfile.TemporaryDirectory(prefix='matching', dir=database.parent) as work_dir,
              tqdm(total=len(pairs), initial=len(pairs) - len(todo), desc=what, unit='pair', leave=False, mininterval=2.0) as bar):
            folders = (write_part(pycolmap, stored, images, part, Path(work_dir) / str(k)) for k, part in enumerate(parts))
            for part, folder in zip(parts, matched(folders)):
                take_part(pycolmap, folder, stored, [(number[a], number[b]) for a, b in part])
                shutil.rmtree(folder)
                bar.update(len(part))


@contextlib.contextmanager
def _matcher(pycolmap, count: int) -> Iterator[Callable[[Iterable[Path]], Iterator[Path]]]:
    """A function that yields the folders of parts in their order, each matched: by so many processes, or here if one is enough."""
    def alone(folders: Iterable[Path]) -> Iterator[Path]:
        for folder in folders:
            match_part(pycolmap, folder)
            yield folder

    if count > 1:
        with crew(count) as matched:
            yield matched
    else:
        yield alone
