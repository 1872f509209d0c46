"""A folder of images, of one camera or several, as a source."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.recordings.camera_info import read_camera_yaml
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.training.datasets.files import IMAGE_SUFFIXES, image_files, image_size, visible
from aprloc_ros.training.datasets.parsing import natural_key
from aprloc_ros.training.datasets.sizes import has_aspect
from aprloc_ros.training.posing.sources.shots import Look, Optics, Shot, reduced
from aprloc_ros.training.posing.sources.taking import take_photos
from aprloc_ros.training.structure.colmap import load_pycolmap

_EXIF_IFD, _FOCAL, _FOCAL_35MM = 0x8769, 0x920A, 0xA405   # Exif 2.32, section 4.6
_MAKER, _MODEL = 0x010F, 0x0110
_ASIDE = ('depth', 'depths', 'mask', 'masks')   # folders that lie beside the images
_UNREAD = ('.heic', '.heif', '.avif', '.webp', '.bmp', '.jp2', '.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf')   # TIFF may be depth
_MASK = 'dynamic_mask_'                         # files of instant-ngp


class Photos:
    """camera.yaml of ROS in the folder is the calibration of all of them."""

    what = 'photos'

    def __init__(self, path: Path):
        self.path, self.notes = path, []
        self._files = find_images(path)
        if not self._files:
            raise AprlocError(f'{path}: no image in this folder (looked for {", ".join(IMAGE_SUFFIXES)}); convert others, '
                              f'such as HEIC, to JPEG')
        self._check_names()
        self.notes += _unread(self._files)
        calibration = path / 'camera.yaml'
        self._camera = read_camera_yaml(calibration) if calibration.is_file() else None
        self._optics_of = {}
        self.is_video: bool | None = None

    def __len__(self) -> int:
        return len(self._files)

    def looks(self) -> Iterator[Look]:
        for index, file in enumerate(self._files):
            try:
                yield Look(index, None, reduced(read_image(file)), self._sequence(file))
            except AprlocError as error:
                self.notes.append(f'left out: {error}')

    def take(self, indices: Sequence[int], folder: Path) -> Iterator[Shot]:
        files = {self._name(self._files[index]): self._files[index] for index in indices}
        self.notes += take_photos(files, self.path, folder)
        for name, file in files.items():
            yield Shot(name, self._optics(file), None, self._sequence(file))

    def _name(self, file: Path) -> str:
        """As COLMAP's lists can hold it: no white space, no #, no backslash, no bytes that are no letters."""
        return re.sub(r'[\s#\\]', '_', os.fsencode(file.relative_to(self.path)).decode(errors='backslashreplace'))

    def _check_names(self):
        met = {}
        for file in self._files:
            other = met.setdefault(self._name(file), file)
            if other is not file:
                raise AprlocError(f'{other} and {file} would both be called {self._name(file)} in the capture; rename one of them')

    def _sequence(self, file: Path) -> str:
        return file.parent.relative_to(self.path).as_posix()

    def _optics(self, file: Path) -> Optics:
        size = image_size(file)
        if self._camera is not None:
            return Optics(*size, _of_size(self._camera, size, file))
        key = (*size, *_exif(file), self._sequence(file))
        if key not in self._optics_of:
            self._optics_of[key] = Optics(*size, focal_px=_focal_px(file, key[2:-1]), group=key[2:])
        return self._optics_of[key]


def find_images(path: Path) -> list[Path]:
    """In the folder `images` if there is one, else in the given one, else in all below it."""
    inside = path / 'images'
    here = image_files(inside) if inside.is_dir() else image_files(path)
    if not here:
        here = [file for folder in visible(path, '**/') if folder.name not in _ASIDE for file in image_files(folder)]
    here = [file for file in here if not file.name.startswith(_MASK)]
    return sorted(here, key=lambda file: natural_key(file.relative_to(path).as_posix()))


def _unread(files: Iterable[Path]) -> Iterator[str]:
    """What to say of photos of other formats beside those that are taken."""
    taken = {(file.parent, file.stem) for file in files}   # a camera may write one photo twice, raw and as JPEG
    beside = [path for folder in sorted({folder for folder, _ in taken}) for path in visible(folder)
              if path.suffix.lower() in _UNREAD and (folder, path.stem) not in taken]
    if beside:
        suffixes = ', '.join(sorted({path.suffix.lower() for path in beside}))
        yield f'WARNING: {len(beside)} photos beside the others are left out ({suffixes}): JPEG and PNG are read; convert them'


def _of_size(camera: Camera, size: tuple[int, int], file: Path) -> Camera:
    if not has_aspect(size, (camera.width, camera.height)):
        raise AprlocError(f'{file}: the image is {size[0]}x{size[1]} but camera.yaml is of {camera.width}x{camera.height}, of '
                          f'another aspect; calibrate in the mode of the images, or remove camera.yaml')
    return camera.resized(*size)


def _exif(file: Path) -> tuple:
    """Maker, model, focal length, focal length of 35 mm film: None each where it does not say."""
    with Image.open(file) as image:
        exif = image.getexif()
    lens = exif.get_ifd(_EXIF_IFD)
    return exif.get(_MAKER), exif.get(_MODEL), _length(lens.get(_FOCAL)), _length(lens.get(_FOCAL_35MM))


def _length(value: object) -> float | None:
    """None for what cameras write that do not know it: 0, 0/0, which equals nothing, or a text."""
    try:
        return float(value) if 0 < float(value) < math.inf else None
    except (TypeError, ValueError, ZeroDivisionError):
        return None


def _focal_px(file: Path, exif: tuple) -> float | None:
    """As COLMAP infers it, which knows the sensors of many cameras."""
    if not any(exif[2:]):
        return None
    camera = load_pycolmap().infer_camera_from_image(file)
    return camera.mean_focal_length() if camera.has_prior_focal_length else None
