"""Masks of moving objects: read, warped into a view, and written by a segmentation model."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_datasets_transforms as transforms
import torch
from capture_fixtures import HEIGHT, WIDTH, make_scene, refused

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame, Mask
from aprloc_ros.training.datasets.mask_files import own_place, with_masks
from aprloc_ros.training.images.masks import load_mask, moving_pixels, write_masks

PINHOLE = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
BARREL = Camera(80, 60, 60.0, 60.0, 40.1, 29.0, 'opencv', (-0.25, 0.06, 0.001, 0.0))


def photograph(directory: Path, name: str = 'a.jpg', mask: np.ndarray | None = None, camera: Camera = PINHOLE) -> Frame:
    path = directory / 'images' / name
    (path.parent / 'masks').mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    if mask is not None:
        cv2.imwrite(str(path.parent / 'masks' / f'{path.stem}.png'), mask)
    return found(Frame(name, path, torch.eye(4, dtype=torch.float64), camera))


def found(frame: Frame) -> Frame:
    """With its mask, if it has one."""
    return with_masks((frame,), frame.image_path.parent.parent, None)[0][0]


def square() -> np.ndarray:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 10:30] = 255
    return mask


@pytest.mark.parametrize('value', [1, 255])
@pytest.mark.parametrize('shape', ['grey', 'colour', 'with alpha'])
def test_whatever_is_not_zero_moves(tmp_path, value, shape):
    mask = square() // 255 * value
    stored = {'grey': mask, 'colour': np.stack([mask, 0 * mask, 0 * mask], -1),
              'with alpha': np.stack([0 * mask, mask, mask, 0 * mask + 255], -1)}[shape]
    moving = load_mask(photograph(tmp_path, mask=stored))
    assert moving.dtype == torch.bool and np.array_equal(moving.numpy(), square() > 0)


def test_an_image_without_a_mask_has_none(tmp_path):
    frame = photograph(tmp_path)
    assert load_mask(frame) is None
    assert not moving_pixels(frame, PINHOLE.resized(40, 30)).any()
    assert moving_pixels(frame, PINHOLE.resized(40, 30)).shape == (30, 40)


def test_a_mask_of_another_size_or_kind_is_refused_by_name(tmp_path):
    with pytest.raises(AprlocError, match=r'a\.png: the mask is 40x40 but its image 80x60, of another aspect'):
        photograph(tmp_path, mask=np.zeros((40, 40), np.uint8))
    (tmp_path / 'images/masks/a.png').write_text('not an image')
    with pytest.raises(AprlocError, match=r'masks/a\.png: not a readable image'):
        photograph(tmp_path)


def test_a_mask_of_another_size_and_the_same_aspect_is_scaled(tmp_path):
    for size in ((40, 30), (160, 120)):
        mask = cv2.resize(square(), size, interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(load_mask(photograph(tmp_path, mask=mask)).numpy(), square() > 0)


# ---- places and polarities

def capture_of(root, pictures: str = 'images') -> tuple[Frame, ...]:
    names = [f'{i}.jpg' for i in range(4)]
    for name in names:
        (root / pictures / 'left').mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / pictures / 'left' / name), np.zeros((60, 80, 3), np.uint8))
    return tuple(Frame(f'left/{n}', root / pictures / 'left' / n, torch.eye(4).double(), PINHOLE) for n in names)


def draw(path, mask: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask)


PLACES = [
    ('images', 'masks/left/{}.jpg.png', 'black'),            # COLMAP
    ('images', 'images/left/masks/{}.jpg.png', 'black'),
    ('images', 'masks/left/{}.png', 'black'),                # nerfstudio
    ('images_4', 'masks_4/left/{}.png', 'black'),
    ('images_4', 'masks/left/{}.jpg.png', 'black'),
    ('images', 'images/left/masks/{}.png', 'white'),         # aprloc masks
    ('images', 'images/left/dynamic_mask_{}.png', 'white'),  # instant-ngp
    ('seq', 'masks/seq/left/{}.png', 'black'),
]


@pytest.mark.parametrize('pictures, place, hides', PLACES)
def test_masks_are_found_in_the_places_of_each_tool_with_its_polarity(tmp_path, pictures, place, hides):
    frames = capture_of(tmp_path, pictures)
    mask = square() if hides == 'white' else 255 - square()
    for i in range(3):
        draw(tmp_path / place.format(i), mask)
    masked, (note,) = with_masks(frames, tmp_path, None)
    assert [frame.mask and frame.mask.hides for frame in masked] == [hides] * 3 + [None]
    assert all(np.array_equal(load_mask(frame).numpy(), square() > 0) for frame in masked[:3])
    assert '3 of 4 images' in note and f'{hides} pixels hide: 8 %' in note and '92 % are used' in note


@pytest.mark.parametrize('place, may_mean_either', [('masks/left/{}.png', True), ('images/left/masks/{}.png', True),
                                                    ('masks/left/{}.jpg.png', False)])
def test_masks_that_hide_most_are_asked_about_where_their_name_leaves_a_doubt(tmp_path, place, may_mean_either):
    frames = capture_of(tmp_path)
    hides = 'white' if place.startswith('images') else 'black'
    mask = np.zeros((60, 80), np.uint8)
    mask[:50] = 255
    for i in range(4):
        draw(tmp_path / place.format(i), mask if hides == 'white' else 255 - mask)
    if may_mean_either:
        other = 'black' if hides == 'white' else 'white'
        with pytest.raises(AprlocError, match=f'hide: 83 %.*"masks_hide: {other}".*yaml.*"masks_hide: {hides}"'):
            with_masks(frames, tmp_path, None)
        assert load_mask(with_masks(frames, tmp_path, other)[0][0]).float().mean() < 0.2
    (said,) = with_masks(frames, tmp_path, hides if may_mean_either else None)[1]
    assert 'hide: 83 %' in said and '17 % are used' in said


def test_masks_that_hide_everything_are_refused(tmp_path):
    frames = capture_of(tmp_path)
    for i in range(4):
        draw(tmp_path / f'masks/left/{i}.jpg.png', np.zeros((60, 80), np.uint8))
    for hides in (None, 'black'):
        with pytest.raises(AprlocError, match='hide: 100 %'):
            with_masks(frames, tmp_path, hides)


def test_nerfstudios_mask_path_and_the_choice_in_capture_yaml(tmp_path):
    root = transforms.write(tmp_path / 'place', make_scene(24), transforms.OPENCV,
                            lambda i: {'mask_path': f'hidden\\{i}.png'})
    for i in range(24):
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:6] = 0
        draw(root / 'hidden' / f'{i}.png', mask)
    capture = read_capture(root)
    assert all(frame.mask.hides == 'black' for frame in capture.train)
    assert any('black pixels hide: 25 %' in note for note in capture.notes)
    (root / 'capture.yaml').write_text('masks_hide: white\n')   # three quarters, of which capture.yaml leaves no doubt
    assert load_mask(read_capture(root).train[0]).float().mean() == 0.75
    (root / 'capture.yaml').write_text('masks_hide: grey\n')
    refused(root, 'capture.yaml', 'grey', 'black or white')
    (root / 'hidden' / '7.png').unlink()
    (root / 'capture.yaml').unlink()
    refused(root, 'transforms.json:', '7.png', 'missing')


def test_a_pixel_moves_where_any_part_of_it_does(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[21, 11] = mask[40, 60:62] = 255
    moving = moving_pixels(photograph(tmp_path, mask=mask), PINHOLE.resized(40, 30))
    assert moving[10, 5] and moving[20, 30] and moving.sum() == 2


def test_a_mask_is_undistorted_like_its_image(tmp_path):
    """Every moving pixel of the rectified view is where OpenCV projects its ray to, up to a pixel at the edge."""
    target = replace(BARREL.without_distortion(), width=70)
    moving = moving_pixels(photograph(tmp_path, mask=square(), camera=BARREL), target).numpy()
    rays = target.directions().numpy().reshape(-1, 1, 3)
    uv = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), BARREL.matrix, np.array(BARREL.distortion))[0]
    u, v = uv.reshape(60, 70, 2).transpose(2, 0, 1)
    inside = (u > 10) & (u < 29) & (v > 20) & (v < 39)
    outside = (u < 9) | (u > 30) | (v < 19) | (v > 40)
    assert moving[inside].all() and not moving[outside].any() and inside.sum() > 100


# ---- a segmentation model

def captured(directory: Path) -> Capture:
    frames = [photograph(directory, f'{name}.jpg') for name in 'abc']
    return Capture('street', 'colmap', directory, tuple(frames[:2]), tuple(frames[2:]))


def save_tiny_segmenter(directory: Path, everything_is: str) -> Path:
    """A Mask2Former of random weights, which calls every segment that it finds the same."""
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    labels = ['wall', 'person', 'car']
    backbone = transformers.SwinConfig(image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2,
                                       out_features=['stage1', 'stage2', 'stage3', 'stage4'])
    torch.manual_seed(0)
    model = transformers.Mask2FormerForUniversalSegmentation(transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=4,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}))
    with torch.no_grad():
        model.class_predictor.weight.zero_()
        model.class_predictor.bias.copy_(20.0 * torch.eye(4)[labels.index(everything_is)])
    model.save_pretrained(directory)
    transformers.Mask2FormerImageProcessor(size={'height': 64, 'width': 64}).save_pretrained(directory)
    return directory


@pytest.mark.parametrize('label', ['person', 'wall'])
def test_masks_are_written_where_the_model_sees_what_moves(tmp_path, label):
    capture = captured(tmp_path)
    model = save_tiny_segmenter(tmp_path / 'model', label)
    cv2.imwrite(str(own_place(capture.train[0])), square())
    assert write_masks(capture, str(model), 'cpu') == 2
    assert np.array_equal(load_mask(found(capture.train[0])).numpy(), square() > 0)   # drawn by hand, left alone
    for frame in (capture.train[1], capture.test[0]):
        moving = load_mask(replace(frame, mask=Mask(own_place(frame), 'white')))
        assert moving.shape == (60, 80) and moving.any() == (label == 'person')
    assert write_masks(capture, str(model), 'cpu') == 0


def test_a_model_that_is_not_there_is_refused_in_one_line(tmp_path):
    pytest.importorskip('transformers', reason='transformers is not installed')
    with pytest.raises(AprlocError, match='model .*nowhere.*; give the name of a panoptic') as refusal:
        write_masks(captured(tmp_path), str(tmp_path / 'nowhere'), 'cpu')
    assert '\n' not in str(refusal.value)


def test_without_transformers_the_cure_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(AprlocError, match='pip install transformers'):
        write_masks(captured(tmp_path), 'any', 'cpu')
