"""Photos as they lie in folders: with masks, of more than eight bits, of cameras beside one another."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.mask_files import hidden_pixels, with_masks
from aprloc_ros.training.posing import by_map
from aprloc_ros.training.posing.sources.photos import Photos
from aprloc_ros.training.posing.sources.taking import MASKS
from aprloc_ros.training.posing.workplace import fingerprint
from aprloc_ros.training.structure.features import extract

WIDTH, HEIGHT = 160, 120
LEFT = np.arange(WIDTH) < 60   # columns that masks hide here


def photo(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def write(file: Path, image: np.ndarray):
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)


def mask(hides: str) -> np.ndarray:
    return np.tile(np.where(LEFT == (hides == 'white'), 255, 0).astype(np.uint8), (HEIGHT, 1))


@pytest.mark.parametrize('images, masks, hides', [
    ('', 'masks/{name}.png', 'black'), ('images', 'masks/{name}.png', 'black'), ('images', 'masks/{stem}.png', 'black'),
    ('', 'masks/{stem}.png', 'white'), ('', 'dynamic_mask_{stem}.png', 'white')])
def test_masks_are_found_where_captures_keep_them_and_come_into_the_new_one(tmp_path, images, masks, hides):
    pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    names = ['a.jpg', 'b.jpg']
    for seed, name in enumerate(names):
        write(tmp_path / 'source' / images / name, photo(seed))
        write(tmp_path / 'source' / masks.format(name=name, stem=Path(name).stem), mask(hides))
    source, capture = Photos(tmp_path / 'source'), tmp_path / 'capture'
    assert len(source) == 2
    shots = list(source.take([0, 1], capture / 'images'))
    assert any('whose' in note and 'pixels hide: 38 % of all' in note for note in source.notes)
    camera = pycolmap.Camera.create_from_model_name(0, 'RADIAL', 150.0, WIDTH, HEIGHT)
    extract(pycolmap, tmp_path / 'database.db', capture / 'images', {shot.name: camera for shot in shots}, capture / MASKS)
    with pycolmap.Database.open(tmp_path / 'database.db') as stored:
        columns = np.concatenate([stored.read_keypoints(number)[:, 0] for number in (1, 2)])
    assert len(columns) > 50 and columns.min() >= LEFT.sum()
    for shot in shots:
        taken = Frame(shot.name, capture / 'images' / shot.name, torch.eye(4), Camera(WIDTH, HEIGHT, 150, 150, 80, 60))
        (found,), _ = with_masks((taken,), capture, None)
        assert (hidden_pixels(found.mask, (WIDTH, HEIGHT)) == LEFT).all()


def test_masks_of_which_nobody_knows_what_they_hide_are_asked_for(tmp_path):
    write(tmp_path / 'images' / 'a.jpg', photo(0))
    write(tmp_path / 'masks' / 'a.png', 255 - mask('black'))
    with pytest.raises(AprlocError, match='masks_hide: white'):
        list(Photos(tmp_path).take([0], tmp_path / 'taken'))
    (tmp_path / 'capture.yaml').write_text('masks_hide: white\n')
    assert len(list(Photos(tmp_path).take([0], tmp_path / 'taken'))) == 1


def test_photos_of_twelve_bits_are_taken_at_their_sensors_range(tmp_path):
    bright, dark = (photo(seed).astype(np.uint16) * 16 // share for seed, share in ((0, 1), (1, 4)))
    write(tmp_path / 'bright.png', bright)
    write(tmp_path / 'dark.png', dark)
    write(tmp_path / 'eight.jpg', photo(2))
    source = Photos(tmp_path)
    list(source.take([0, 1, 2], tmp_path / 'taken'))
    assert any('12 bits' in note for note in source.notes)
    for name, image in (('bright.png', bright), ('dark.png', dark)):
        taken = cv2.imread(str(tmp_path / 'taken' / name), cv2.IMREAD_UNCHANGED)
        assert taken.dtype == np.uint8 and np.abs(taken - image / 4095 * 255).max() <= 0.5
        assert cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert (tmp_path / 'taken' / 'eight.jpg').samefile(tmp_path / 'eight.jpg')


@pytest.mark.parametrize('named', [b'n\xe4he 1.jpg', 'n\u00e4he\u202f1.jpg'.encode(), b'#100% \\1.jpg'])
def test_names_that_colmaps_lists_cannot_hold_are_others_in_the_capture(named, tmp_path):
    pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    write(tmp_path / 'source' / 'a.jpg', photo(0))
    (tmp_path / 'source' / 'a.jpg').rename(tmp_path / 'source' / os.fsdecode(named))
    shot, = Photos(tmp_path / 'source').take([0], tmp_path / 'images')
    camera = pycolmap.Camera.create_from_model_name(0, 'RADIAL', 150.0, WIDTH, HEIGHT)
    extract(pycolmap, tmp_path / 'database.db', tmp_path / 'images', {shot.name: camera}, tmp_path / MASKS)
    assert not re.search(r'[\s#\\]', shot.name) and shot.name.encode() and (tmp_path / 'images' / shot.name).is_file()


def test_two_names_that_would_become_one_are_said(tmp_path):
    for name in ('a b.jpg', 'a_b.jpg'):
        write(tmp_path / name, photo(0))
    with pytest.raises(AprlocError, match=r'a b.jpg and .*a_b.jpg would both be called a_b.jpg'):
        Photos(tmp_path)


def test_what_lies_in_hidden_folders_is_no_photo(tmp_path):
    """Thumbnails of a viewer, an unfinished capture beside the photos; nor is a pipe, which would be read for ever."""
    for name in ('front/a.jpg', '.thumbnails/normal/a.jpg', '.posed.unfinished/capture/images/a.jpg'):
        write(tmp_path / name, photo(0))
    os.mkfifo(tmp_path / 'front/pipe.jpg')
    marks = fingerprint(tmp_path, None, 0)
    assert len(Photos(tmp_path)) == 1
    write(tmp_path / '.posed.unfinished/capture/images/b.jpg', photo(1))
    assert fingerprint(tmp_path, None, 0) == marks


def test_photos_of_formats_that_are_not_read_are_not_left_out_in_silence(tmp_path):
    """A phone's folder of HEIC in which a few are JPEG. A raw file beside its JPEG is the same photo, and TIFF may be depth."""
    for name in ('a.jpg', 'b.jpg'):
        write(tmp_path / name, photo(0))
    for name in ('a.dng', 'b.tif', '.c.heic'):
        (tmp_path / name).write_bytes(b'other')
    assert not Photos(tmp_path).notes
    for name in ('c.HEIC', 'd.heic', 'e.webp'):
        (tmp_path / name).write_bytes(b'other')
    assert Photos(tmp_path).notes == ['WARNING: 3 photos beside the others are left out (.heic, .webp): JPEG and PNG are read; convert them']


@pytest.mark.parametrize('focal', [IFDRational(0, 0), IFDRational(0, 10)])
def test_photos_whose_camera_does_not_know_its_focal_length_have_one_lens(tmp_path, focal):
    """0/0 is no number, and equals none."""
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = 'maker', {0x920A: focal}
    for name in ('a.jpg', 'b.jpg', 'c.jpg'):
        Image.fromarray(photo(0)).save(tmp_path / name, exif=exif)
    source = Photos(tmp_path)
    assert len({shot.optics for shot in source.take([0, 1, 2], tmp_path.parent / 'taken')}) == 1


def test_a_photo_that_its_exif_turns_is_asked_as_it_is_stored(tmp_path, monkeypatch):
    """Of a portrait photo a telephone stores a landscape, whose calibration and features are those of the landscape."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(0)).save(tmp_path / 'a.jpg', exif=exif)
    asked = []
    answer = SimpleNamespace(status='rejected', reason='unsure', text='')
    monkeypatch.setattr(by_map, 'Localizer', lambda *_: SimpleNamespace(
        localize=lambda image, camera: asked.append((image.shape, camera)) or answer))
    manifest = SimpleNamespace(scene=SimpleNamespace(scene_unit_m=1.0), accuracy={})
    shot, = Photos(tmp_path).take([0], tmp_path / 'taken')
    by_map._believed(SimpleNamespace(manifest=manifest), [shot], tmp_path / 'taken', 'cpu')
    assert (shot.optics.width, shot.optics.height) == (WIDTH, HEIGHT) and asked == [((HEIGHT, WIDTH, 3), None)]


def test_what_is_chosen_of_a_single_bag_is_part_of_the_request(tmp_path):
    """Images of another topic are other images."""
    bag, before = tmp_path / 'drive.bag', None
    bag.touch()
    for chosen in (None, 'image_topic: /left\n', 'image_topic: /right_one\n'):
        if chosen:
            (tmp_path / 'capture.yaml').write_text(chosen)
        before, marks = fingerprint(bag, None, 0), before
        assert before != marks
    (tmp_path / 'other.bag').touch()
    assert fingerprint(bag, None, 0) == before
