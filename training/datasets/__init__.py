"""One reader per format; `read_capture` tells which one by what lies in the folder."""

from pathlib import Path

from aprloc_ros.errors import AprlocError, typed
from aprloc_ros.training.datasets.admission import admitted
from aprloc_ros.training.datasets.capture import Capture, NoPoses
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.formats import bag, cambridge, colmap_model, llff, seven_scenes, transforms_json, tum

# In the order of trial: where a folder fits two, the first one says more (a split, lens, points).
READERS = (transforms_json, cambridge, seven_scenes, colmap_model, llff, tum)


def read_capture(path: str | Path, cache_dir: str | Path | None = None) -> Capture:
    """The capture in a folder or file, whatever its format. cache_dir: where a bag's images are extracted to.

    Raises NoPoses when no format fits (it lists what was looked for), AprlocError when the capture is broken (file and line).
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise AprlocError(f'{path}: no such file or folder')
    for reader in READERS:
        if reader.recognises(path):
            return admitted(reader.read(path), read_choice(path))
    if bag.recognises(path):
        return admitted(bag.read(path, Path(cache_dir).expanduser() if cache_dir else None), read_choice(path))
    wanted = '; '.join(reader.LOOKED_FOR for reader in (*READERS, bag))
    raise NoPoses(f'{path}: not a capture of a known format; looked for {wanted}; images or a video without poses get them '
                  f'by: aprloc pose {typed(path)} --out CAPTURE')
