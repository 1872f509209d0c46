"""Masks of moving objects: read, warped into a view, and written by a segmentation model."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.masks import load_mask, mask_path, moving_pixels, write_masks

PINHOLE = Camera(80, 60, 70.0, 70.0, 39.5, 29.5)
BARREL = Camera(80, 60, 60.0, 60.0, 40.1, 29.0, 'opencv', (-0.25, 0.06, 0.001, 0.0))


def photograph(directory: Path, name: str = 'a.jpg', mask: np.ndarray | None = None, camera: Camera = PINHOLE) -> Frame:
    path = directory / 'images' / name
    (path.parent / 'masks').mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    if mask is not None:
        cv2.imwrite(str(path.parent / 'masks' / f'{path.stem}.png'), mask)
    return Frame(name, path, torch.eye(4, dtype=torch.float64), camera)


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
    with pytest.raises(AprlocError, match=r'a\.png: the mask is 40x30 but its image 80x60; they must be equal'):
        load_mask(photograph(tmp_path, mask=np.zeros((30, 40), np.uint8)))
    mask_path(photograph(tmp_path)).write_text('not an image')
    with pytest.raises(AprlocError, match=r'masks/a\.png: not a readable image'):
        load_mask(photograph(tmp_path))


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
    cv2.imwrite(str(mask_path(capture.train[0])), square())
    assert write_masks(capture, str(model), 'cpu') == 2
    assert np.array_equal(load_mask(capture.train[0]).numpy(), square() > 0)   # drawn by hand, left alone
    for frame in (capture.train[1], capture.test[0]):
        moving = load_mask(frame)
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
