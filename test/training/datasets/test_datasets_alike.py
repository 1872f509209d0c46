"""What holds for captures of every format: sizes, stored pixels, files of other systems, what is said of the rest."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import test_datasets_cambridge as cambridge
import test_datasets_colmap as colmap
import test_datasets_llff as llff
import test_datasets_seven_scenes as seven_scenes
import test_datasets_transforms as transforms
import test_datasets_tum as tum
import torch
from capture_fixtures import HEIGHT, WIDTH, make_scene, picture, refused
from PIL import Image

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.parsing import in_order
from aprloc_ros.training.datasets.sizes import has_aspect

CAMERA_YAML = (f'image_width: {WIDTH}\nimage_height: {HEIGHT}\n'
               'camera_matrix:\n  data: [30, 0, 15.4, 0, 31, 11.2, 0, 0, 1]\n'
               'distortion_model: plumb_bob\ndistortion_coefficients:\n  data: [0.05, -0.02, 0.003, -0.002, 0.0]\n')


def write_tum(root):
    tum.write(root, make_scene(24))
    (root / 'camera.yaml').write_text(CAMERA_YAML)
    return root


def write_sfm(root):
    return seven_scenes.write_sfm(seven_scenes.write(root, make_scene(12)), make_scene(12))


WRITERS = {
    'colmap': lambda root: colmap.write(root, make_scene(24), 'OPENCV'),
    'transforms': lambda root: transforms.write(root, make_scene(24), transforms.OPENCV),
    'tum': write_tum,
    'llff': lambda root: llff.write(root, make_scene(16)),
    '7scenes': lambda root: seven_scenes.write(root, make_scene(12)),
    '7scenes-sfm': write_sfm,
    'cambridge': lambda root: cambridge.write(root, make_scene(12)),
}
# Those that tell of which size the camera is.
SIZED = ('colmap', 'transforms', 'tum', 'llff', '7scenes')


def every(*formats: str):
    return pytest.mark.parametrize('form', formats or WRITERS)


def images_of(root) -> list:
    return sorted(path for path in root.rglob('*.png') if 'depth' not in str(path.relative_to(root)))


def resize(paths, width: int, height: int):
    for path in paths:
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_AREA))


def contents(capture) -> list:
    return [[(frame.T_map_cam.tolist(), frame.camera, frame.sequence, frame.stamp_s, frame.read_image().tolist())
             for frame in split] for split in (capture.train, capture.test)]


# ---- sizes

@pytest.mark.parametrize('size, of, alike', [
    ((480, 270), (1920, 1080), True), ((1297, 840), (5187, 3361), True), ((1296, 840), (5187, 3361), True),
    ((1920, 1080), (480, 270), True), ((1920, 1088), (1920, 1080), False), ((480, 640), (640, 480), False),
    ((640, 360), (640, 480), False), ((853, 480), (1920, 1080), True), ((840, 480), (1920, 1080), False)])
def test_a_scaled_copy_has_the_aspect_within_a_pixels_rounding(size, of, alike):
    assert has_aspect(size, of) is alike


@every(*SIZED)
def test_smaller_images_than_the_cameras_are_scaled_and_it_is_said_once(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    before = read_capture(root)
    resize(images_of(root), WIDTH // 2, HEIGHT // 2)
    after = read_capture(root)
    for was, now in zip((*before.train, *before.test), (*after.train, *after.test)):
        assert now.camera == was.camera.resized(WIDTH // 2, HEIGHT // 2)
        assert now.read_image().shape == (HEIGHT // 2, WIDTH // 2, 3)
    note, = (note for note in after.notes if 'intrinsics' in note)
    count = len(after.train) + len(after.test)
    assert f'{count} of {count} images are 16x12' in note


@every(*SIZED)
def test_a_single_image_of_another_size_is_scaled_or_refused(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    one = read_capture(root).train[1].image_path
    resize([one], 2 * WIDTH, 2 * HEIGHT)
    frame = read_capture(root).train[1]
    assert (frame.camera.width, frame.camera.height) == (2 * WIDTH, 2 * HEIGHT) == frame.read_image().shape[1::-1]
    resize([one], WIDTH, HEIGHT + 4)
    message = refused(root, one.name, '32x28', 'another aspect')
    assert re.search(r'1 of \d+ images', message)


def test_sizes_are_told_by_headers_before_any_image_is_decoded(tmp_path, monkeypatch):
    root = WRITERS['transforms'](tmp_path / 'place')
    meta = transforms.load(root)
    for entry in meta['frames']:
        file = root / entry['file_path']
        cv2.imwrite(str(file.with_suffix('.jpg')), cv2.imread(str(file)))
        file.unlink()
        entry['file_path'] = entry['file_path'].replace('.png', '.jpg')
    transforms.save(root, meta)
    monkeypatch.setattr(cv2, 'imread', None)
    monkeypatch.setattr(cv2, 'imdecode', None)
    assert len(read_capture(root).train) > 10


def test_scaled_copies_of_cambridge_are_told_by_what_its_reconstruction_measured(tmp_path):
    root = WRITERS['cambridge'](tmp_path / 'place')
    file = root / 'reconstruction.nvm'
    file.write_text(re.sub(r'\t(\d\d)\.0 ', r'\t17\1.0 ', file.read_text().replace('1.5 -2.5', '-950 530')))
    resize(images_of(root), 480, 270)
    capture = read_capture(root)
    camera = capture.train[0].camera
    assert (camera.width, camera.fx, camera.cx) == (480, 1730.0 / 4, 239.5) and '1920x1080' in capture.notes[0]
    resize(images_of(root), 480, 360)
    refused(root, '480x360', '950', 'original images')


@pytest.mark.parametrize('form, folder', [('transforms', 'images'), ('colmap', 'images'), ('llff', 'images')])
def test_smaller_copies_serve_where_the_images_are_not_there(tmp_path, form, folder):
    root = WRITERS[form](tmp_path / 'place')
    resize(images_of(root), WIDTH // 4, HEIGHT // 4)
    (root / folder).rename(root / 'images_4')
    capture = read_capture(root)
    assert capture.train[0].camera.width == WIDTH // 4 and any('8x6' in note for note in capture.notes)


def test_depth_of_another_size_is_taken_where_its_aspect_is_the_images(tmp_path):
    root = write_tum(tmp_path / 'place')
    depths = sorted((root / 'depth').iterdir())
    resize(depths, WIDTH // 2, HEIGHT // 2)
    assert read_capture(root).train[1].depth_path
    resize(depths[:1], WIDTH // 2, HEIGHT)
    refused(root, depths[0].name, '16x24', '32x24', 'registered')


# ---- pixels as stored

def tag_turned(path):
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


@every()
def test_pixels_are_taken_as_stored_whatever_their_orientation_tag(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    before = contents(read_capture(root))
    for path in images_of(root):
        tag_turned(path)
    assert cv2.imread(str(images_of(root)[0])).shape[:2] == (WIDTH, HEIGHT)   # a viewer would turn them
    assert contents(read_capture(root)) == before
    assert sum('an EXIF tag that asks viewers to turn' in note for note in read_capture(root).notes) == 1


@pytest.mark.parametrize('tagged', [True, False])
def test_intrinsics_of_images_that_were_turned_are_refused(tmp_path, tagged):
    root = WRITERS['transforms'](tmp_path / 'place')
    for path in images_of(root):
        cv2.imwrite(str(path), cv2.rotate(cv2.imread(str(path)), cv2.ROTATE_90_CLOCKWISE))
        if tagged:
            tag_turned(path)
    message = refused(root, '24x32', '32x24', 'turned by a quarter', 'as they are stored')
    assert ('EXIF' in message) == tagged


@every()
def test_images_that_came_again_while_their_poses_moved_are_left_out(tmp_path, form):
    """A driver that hung gives the same bytes for ever; whoever stands still may see the same."""
    root = WRITERS[form](tmp_path / 'place')
    before = read_capture(root)
    first, *frozen = in_order(frame for frame in before.train if frame.sequence == before.train[0].sequence)[1:4]
    for frame in frozen:
        shutil.copy(first.image_path, frame.image_path)
    found = read_capture(root)
    gone = {frame.name for frame in frozen}
    assert [frame.name for frame in found.train] == [frame.name for frame in before.train if frame.name not in gone]
    assert [frame.name for frame in found.test] == [frame.name for frame in before.test]
    assert sum(f'WARNING: {len(gone)} of ' in note and 'the camera hung' in note for note in found.notes) == 1
    if before.points:
        def seen(capture):
            return {(capture.train[frame].name, point) for frame, point in capture.points.observations.tolist()}
        assert seen(found) == {(name, point) for name, point in seen(before) if name not in gone} and gone & {name for name, _ in seen(before)}


def test_images_of_a_camera_that_stands_may_be_the_same(tmp_path):
    root = WRITERS['transforms'](tmp_path / 'place')
    meta = json.loads((root / 'transforms.json').read_text())
    entries = meta['frames']
    for entry in entries[3:6]:
        entry['transform_matrix'] = entries[2]['transform_matrix']
        shutil.copy(root / entries[2]['file_path'], root / entry['file_path'])
    (root / 'transforms.json').write_text(json.dumps(meta))
    assert not any('hung' in note for note in read_capture(root).notes)


@every('transforms', 'colmap', 'tum')
def test_names_are_found_as_systems_read_them_that_do_not_tell_cases_or_accents(tmp_path, form):
    """A list of Windows or macOS, whose files a Linux shows as they are written."""
    root = WRITERS[form](tmp_path / 'place')
    listing = next(path for name in ('transforms.json', 'rgb.txt', 'images.txt') for path in root.rglob(name))
    image, other, *_ = (frame.image_path for frame in read_capture(root).train)
    stem = image.stem
    image.rename(image.with_name(f'Ku\u0308che-{stem}.PNG'))                          # taken apart
    listing.write_text(re.sub(rf'/{stem}(\.png)?\b', f'/k\u00fcche-{stem}.png', listing.read_text()))
    assert f'Ku\u0308che-{stem}.PNG' in {frame.image_path.name for frame in read_capture(root).train}
    shutil.copy(other, image.with_name(f'ku\u0308che-{stem}.png'))                     # two that may be meant
    refused(root, f'k\u00fcche-{stem}', 'is missing')


@every('transforms', 'colmap')
def test_one_file_for_two_images_of_a_list_is_refused(tmp_path, form):
    """The list names /home/u/left/images/NAME and /home/u/right/images/NAME, of which one folder `images` is here."""
    root = WRITERS[form](tmp_path / 'place')
    listing = root / 'transforms.json' if form == 'transforms' else next(root.rglob('images.txt'))
    first, second, *_ = (frame.name for frame in read_capture(root).train)
    text = listing.read_text()
    for name, folder in ((first, 'left'), (second, 'right')):
        text = re.sub(rf'(?<=[ "])(\./)?{re.escape(name.removesuffix(".png"))}(\.png)?\b', f'/home/u/{folder}/{first}', text)
    listing.write_text(text)
    refused(root, f'/left/{first}', f'/right/{first} are this file', 'keep the folders')


@every('tum', 'transforms', 'cambridge')
def test_a_folder_is_no_image(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    file = read_capture(root).train[1].image_path
    file.unlink()
    file.mkdir()
    refused(root, str(file), 'is a folder; name the file' if form != 'transforms' else '')


# ---- files of other systems

def text_files(root) -> list:
    return [path for path in root.rglob('*') if path.suffix in ('.txt', '.json', '.nvm', '.yaml')]


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@every(*WRITERS)
def test_text_files_as_windows_writes_them(tmp_path, form, encoding):
    root = WRITERS[form](tmp_path / 'place')
    before = contents(read_capture(root))
    for path in text_files(root):
        path.write_bytes(path.read_text().replace('\n', '\r\n').encode(encoding))
    assert contents(read_capture(root)) == before


@pytest.mark.parametrize('home', ['', 'C:\\Users\\me\\place\\', '/home/someone/place/'])
@every('colmap', 'transforms', 'tum', '7scenes-sfm', 'cambridge')
def test_lists_of_another_system_or_machine(tmp_path, form, home):
    root = WRITERS[form](tmp_path / 'place')
    before = contents(read_capture(root))

    def foreign(match) -> str:
        name = match[0].removeprefix('./')
        return home + (name if home.startswith('/') else name.replace('/', '\\'))
    for path in text_files(root):
        text = re.sub(r'[\w./-]+\.(png|jpg)\b', foreign, path.read_text())
        path.write_text(text.replace('\\', '\\\\') if path.suffix == '.json' else text)
    after = contents(read_capture(root))
    for item in (0, 1, -1):   # poses, cameras and images; sequences are named by folders that are not here
        assert [[row[item] for row in split] for split in after] == [[row[item] for row in split] for split in before]


def test_the_splits_of_a_windows_capture(tmp_path):
    root = WRITERS['transforms'](tmp_path / 'place')
    meta = transforms.load(root)
    names = [entry['file_path'].replace('/', '\\') for entry in meta['frames']]
    for entry, name in zip(meta['frames'], names):
        entry['file_path'] = name
    meta.update(train_filenames=names[4:], test_filenames=[name.removeprefix('.\\') for name in names[:3]])
    transforms.save(root, meta)
    capture = read_capture(root)
    assert (len(capture.train), len(capture.test)) == (20, 3)
    assert any('1 of 24 images are in no split' in note for note in capture.notes)


@every('colmap', 'transforms', 'tum', 'llff', 'cambridge')
def test_suffixes_of_another_case(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    before = contents(read_capture(root))
    for path in images_of(root):
        path.rename(path.with_suffix('.PNG'))
    assert contents(read_capture(root)) == before


@every()
def test_what_systems_leave_in_folders_is_no_part_of_a_capture(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    before = contents(read_capture(root))
    for folder in [root, *(path for path in root.rglob('*') if path.is_dir())]:
        for path in list(folder.iterdir()):
            path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7')
        for name in ('.DS_Store', 'Thumbs.db', 'desktop.ini'):
            (folder / name).write_bytes(b'\0')
    capture = read_capture(root)
    assert contents(capture) == before and not any('pose' in note for note in capture.notes)


# ---- what is not used

@every('colmap', 'transforms', '7scenes', 'cambridge')
def test_images_without_pose_are_counted(tmp_path, form):
    root = WRITERS[form](tmp_path / 'place')
    assert not any('no pose' in note for note in read_capture(root).notes)
    folder = images_of(root)[0].parent
    for index in range(5):
        name = f'frame-9{index}.color.png' if form == '7scenes' else f'other{index}.png'
        cv2.imwrite(str(folder / name), picture(index))
    note, = (note for note in read_capture(root).notes if 'no pose' in note)
    assert note.startswith('5 of ') and str(folder) in note


def test_images_that_the_ground_truth_does_not_cover_are_counted(tmp_path):
    root = write_tum(tmp_path / 'place')
    truth = (root / 'groundtruth.txt').read_text().splitlines()
    (root / 'groundtruth.txt').write_text('\n'.join(truth[4:]) + '\n')
    assert '3 of 24 images of rgb.txt are not used' in read_capture(root).notes[0]


@every('colmap', 'transforms', 'tum', 'llff')
def test_every_image_is_trained_on_held_out_or_counted(tmp_path, form):
    capture = read_capture(WRITERS[form](tmp_path / 'place'))
    total = 16 if form == 'llff' else 24
    left = [int(note.split()[0]) for note in capture.notes if 'in no split' in note]
    assert len(capture.train) + len(capture.test) + sum(left) == total


# ---- impossible cameras

@pytest.mark.parametrize('change, parts', [
    ({'cx': 40.0}, ('principal point', '39.5', '32x24', 'larger image')),
    ({'cy': -3.0}, ('principal point', '-3.5')),
    ({'cx': 0.5, 'cy': 0.5, 'w': 640, 'h': 480, 'fl_x': 525, 'fl_y': 525}, ('principal point', 'share of the image')),
    ({'fl_x': 0.9, 'fl_y': 0.9}, ('fx = 0.9', '3.2 to 3200', 'millimetres')),
    ({'fl_x': 1e5, 'fl_y': 1e5}, ('fx = 100000',)),
    ({'fl_x': 30, 'fl_y': 90}, ('fx = 30', 'fy = 90', 'ratio')),
    ({'fl_x': float('nan')}, ('fl_x', 'nan')),
    ({'k1': float('inf')}, ('k1', 'inf')),
    ({'fl_x': -30}, ('fx=-30',)),
])
def test_impossible_intrinsics_are_refused(tmp_path, change, parts):
    root = transforms.write(tmp_path / 'place', make_scene(24), {**transforms.OPENCV, **change})
    refused(root, *parts)


@pytest.mark.parametrize('shared, parts', [
    *[({key: value}, (key, 'undistort')) for key, value in (
        ('ftheta_p0', 0.0), ('latlong', True), ('equirectangular', True), ('orthographic', True))],
    *[({'camera_model': name}, (name, 'PINHOLE')) for name in (
        'EQUIRECTANGULAR', 'FISHEYE624', 'ORTHOPHOTO', 'OMNIDIRECTIONALSTEREO_L', 'VR180_L', 'FOV',
        'THIN_PRISM_FISHEYE', 'double_sphere', 'EUCM')],
    ({'is_fisheye': True, 'camera_model': 'OPENCV'}, ('is_fisheye', 'contradicts')),
    ({'is_fisheye': True, 'p1': 0.1, 'camera_model': 'OPENCV_FISHEYE'}, ('p1 = 0.1',)),
    ({'camera_model': 'OPENCV_FISHEYE', 'k5': 0.1}, ('k5 = 0.1',)),
    ({'k6': 0.1}, ('k6 = 0.1',)),
])
def test_lenses_that_are_not_understood_are_refused_by_name(tmp_path, shared, parts):
    plain = {key: value for key, value in transforms.OPENCV.items() if key not in ('p1', 'p2')}
    if shared.get('camera_model') is None:
        plain.pop('camera_model')
    refused(transforms.write(tmp_path / 'place', make_scene(24), {**plain, **shared}), 'transforms.json:', *parts)


@pytest.mark.parametrize('shared, model', [
    ({'camera_model': 'SIMPLE_PINHOLE'}, 'opencv'), ({'camera_model': 'perspective'}, 'opencv'),   # as nerfstudio does
    ({'camera_model': 'fisheye', 'p1': 0, 'p2': 0}, 'fisheye'), ({'latlong': False, 'ftheta_p0': None}, 'opencv'),
    ({'camera_model': 'FULL_OPENCV', 'k4': 0.01}, 'opencv')])
def test_coefficients_count_whatever_the_model_is_called(tmp_path, shared, model):
    root = transforms.write(tmp_path / 'place', make_scene(24), {**transforms.OPENCV, **shared})
    camera = read_capture(root).train[0].camera
    assert camera.model == model and camera.distortion[:2] == (0.05, -0.02)


def test_an_unknown_lens_of_a_camera_yaml_is_refused(tmp_path):
    root = write_tum(tmp_path / 'place')
    (root / 'camera.yaml').write_text(CAMERA_YAML.replace('plumb_bob', 'double_sphere'))
    refused(root, 'camera.yaml', 'double_sphere', 'plumb_bob')


# ---- deep images

@pytest.mark.parametrize('bits', [8, 10, 12, 16])
def test_deep_images_are_scaled_by_the_bits_they_use(tmp_path, bits):
    """One number for the capture: a dark image stays dark."""
    root = WRITERS['transforms'](tmp_path / 'place')
    for index, path in enumerate(images_of(root)):
        deep = np.round(cv2.imread(str(path)) * (((1 << bits) - 1) / 255.0))
        cv2.imwrite(str(path), (deep / (4 if index % 2 else 1)).astype(np.uint16))
    capture = read_capture(root)
    note, = (note for note in capture.notes if '16-bit' in note)
    assert f'{bits} bits' in note
    for frame in capture.train:
        index = transforms.index_of(frame)
        expected = picture(index) / (4 if index % 2 else 1)
        assert np.abs(frame.read_image() - expected).max() <= (1 if bits == 8 else 0.6)


def test_samples_that_are_no_integers_are_refused(tmp_path):
    file = tmp_path / 'a.tiff'
    cv2.imwrite(str(file), picture(0).astype(np.float32))
    frame = Frame('a', file, torch.eye(4), Camera(WIDTH, HEIGHT, 30, 30, 15.5, 11.5))
    with pytest.raises(AprlocError, match=r'a\.tiff: .*float32; write it with 8 or 16 bits'):
        frame.read_image()
