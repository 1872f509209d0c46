"""A COLMAP sparse model, text or binary (https://colmap.github.io/format.html).

Poses are world-to-camera; the frame's scale is whatever the model has (metres after alignment).
"""

import math
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.choice import read_choice
from aprloc_ros.training.datasets.files import SMALLER_COPIES, locate, tidy, unposed, visible
from aprloc_ros.training.datasets.formats.colmap_files import (
    Image,
    count_images,
    has_both_forms,
    model_form,
    read_images,
    read_points,
)
from aprloc_ros.training.datasets.parsing import (
    check_image,
    checked_capture,
    expect_count,
    floats,
    natural_key,
    note_once,
    read_rows,
)
from aprloc_ros.training.datasets.points import training_points
from aprloc_ros.training.datasets.splits import held_out, left_out

FORMAT = 'colmap'
LOOKED_FOR = 'cameras and images (.bin or .txt) here, in sparse, sparse/0 or another there, or colmap/sparse (COLMAP)'
TIMES_FILE = 'times.txt'   # beside the folder of images, of aprloc pose: "stamp_s name" each
_FAR = 0.01        # of the diagonal, from where a point was seen
_ROUNDED = 1e-4    # of what both forms of a model say, in which text has fewer digits
_TRIANGULATED = 'the model has no points that several images see: the build triangulates some'
MODEL_FOLDERS = ('sparse', 'colmap/sparse')


def recognises(path: Path) -> bool:
    return bool(_models(path))


def read(path: Path) -> Capture:
    folder, notes = _chosen_model(path)
    form = model_form(folder)
    file = folder / f'images.{form}'
    images = read_images(folder, form)
    if has_both_forms(folder):
        _check_alike(images, read_images(folder, 'txt'), folder)
    seen = {}
    for image in images:
        note_once(seen, image.name, image.where)
    images = sorted(images, key=lambda image: natural_key(image.name))
    root = _image_folder(path, folder, images, file)
    stamps_s = _stamps(root.parent / TIMES_FILE)
    frames = tuple(Frame(image.name, check_image(locate(root, image.name), image.where), image.T_map_cam, image.camera,
                         stamps_s.get(image.name), sequence=Path(image.name).parent.as_posix()) for image in images)
    train, test = held_out(frames, str(file))
    points, said = _points(images, folder / f'points3D.{form}', train)
    notes = (*notes, *said, *unposed(frame.image_path for frame in frames), *left_out(frames, train, test))
    home = root.parent if model_form(path) and root.name.startswith('images') else path
    return checked_capture(Capture(home.name, FORMAT, home, train, test, points, notes), file)


def _models(path: Path) -> list[Path]:
    """Folders of models: the given one, or those that COLMAP may have made in it."""
    if model_form(path):
        return [path]
    parents = [path / name for name in MODEL_FOLDERS]
    inside = sorted(chain.from_iterable(map(visible, parents)), key=lambda folder: natural_key(str(folder)))
    return [folder for folder in (*parents, *inside) if model_form(folder)]


def _chosen_model(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The model that capture.yaml names, else the one with most images; and what to say of the others."""
    models = _models(path)
    wanted = read_choice(path).model
    if wanted:
        chosen = path / tidy(wanted)
        if not model_form(chosen):
            raise AprlocError(f'{path / "capture.yaml"}: "model: {wanted}" is no model; there are '
                              f'{", ".join(str(model.relative_to(path)) for model in models)}')
        return chosen, ()
    counts = {model: count_images(model) for model in models}
    chosen = max(models, key=counts.get)
    others = ', '.join(f'{model.relative_to(path)} with {counts[model]}' for model in models if model != chosen)
    if not others:
        return chosen, ()
    said = (f'{len(models)} COLMAP models, each in a frame of its own: {chosen.relative_to(path)} with '
            f'{counts[chosen]} images is taken, not {others}; to choose, write "model: FOLDER" into {path / "capture.yaml"}')
    return chosen, (said,)


def _image_folder(path: Path, model: Path, images: list[Image], file: Path) -> Path:
    """Where the images lie: `images` in the capture or beside the model, else the capture's own folder."""
    if not images:
        raise AprlocError(f'{file}: holds no image')
    parents = path, model, *model.resolve().parents[:3]
    candidates = [*(parent / name for name in ('images', *SMALLER_COPIES) for parent in parents), path]
    for folder in candidates:
        if any(locate(folder, image.name).is_file() for image in images[:20]):
            return folder
    raise AprlocError(f'{images[0].where}: image {images[0].name} is missing; looked in '
                      f'{", ".join(dict.fromkeys(map(str, candidates)))}')


def _stamps(file: Path) -> dict[str, float]:
    """By the name of the image; empty without such a file."""
    stamps_s = {}
    for where, words in read_rows(file) if file.is_file() else ():
        expect_count(words, 2, 'stamp_s name', where)
        stamps_s[words[1]], = floats(words[:1], where)
    return stamps_s


def _check_alike(images: list[Image], others: list[Image], folder: Path):
    """AprlocError where the model is there in two forms that say different things: tools change one and leave the other."""
    T_of = {image.name: image.T_map_cam for image in others}
    apart = [image.name for image in images if image.name not in T_of
             or not torch.allclose(T_of[image.name], image.T_map_cam, atol=_ROUNDED * (1 + image.T_map_cam.abs().max().item()))]
    if apart or len(images) != len(others):
        first = f' ({len(apart)} of {len(images)} poses, first {apart[0]})' if apart else f' ({len(images)} and {len(others)} images)'
        raise AprlocError(f'{folder}: images.bin and images.txt differ{first}; which is right? remove the .bin or the .txt files')


def _points(images: list[Image], file: Path, train: tuple[Frame, ...]) -> tuple[SparsePoints | None, tuple[str, ...]]:
    """Those of the model's file, if it is there, they were observed, and the poses put them where they were; and what to say."""
    ids, xyz = read_points(file) if file.is_file() else (np.zeros(0, np.int64), np.zeros((0, 3)))
    order = np.argsort(ids)
    point_ids = np.concatenate([image.point_ids for image in images])
    if len(point_ids) == 0 or len(ids) == 0:
        return None, (_TRIANGULATED,)
    image_of = np.repeat(np.arange(len(images)), [len(image.point_ids) for image in images])
    place = np.minimum(np.searchsorted(ids, point_ids, sorter=order), len(ids) - 1)
    unknown = ids[order[place]] != point_ids
    if unknown.any():
        image = images[image_of[unknown.argmax()]]
        raise AprlocError(f'{image.where}: observes point {point_ids[unknown.argmax()]}, which {file.name} '
                          f'does not hold; the model is incomplete')
    off = _off(images, np.split(xyz[order[place]], np.flatnonzero(np.diff(image_of)) + 1), np.unique(image_of))
    if off > _FAR:
        said = (f'WARNING: {file}: the poses put its points {off:.0%} of an image from where they were seen (in the median), so '
                f'poses or cameras were changed without them: the build triangulates others')
        return None, (said,)
    points = training_points(xyz, image_of, order[place], [image.name for image in images], train)
    return points, () if points else (_TRIANGULATED,)


def _off(images: list[Image], seen: list[np.ndarray], which: np.ndarray) -> float:
    """Median distance between where points [O, 3] of each image are and where it saw them, as a share of its diagonal."""
    shares = []
    for image, xyz in zip((images[index] for index in which), seen):
        T_cam_map = invert(image.T_map_cam).numpy()
        cam = xyz @ T_cam_map[:3, :3].T + T_cam_map[:3, 3]
        before = cam[:, 2] > 0
        moved = np.full(len(xyz), np.inf)
        moved[before] = np.linalg.norm(image.camera.pixels_of(cam[before]) - image.pixels[before], axis=1) if before.any() else 0
        shares.append(moved / math.hypot(image.camera.width, image.camera.height))
    return float(np.median(np.concatenate(shares)))
