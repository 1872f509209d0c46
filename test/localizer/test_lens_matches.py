"""What matches say of a camera, on points that a camera is known to have seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nre_fixtures import CAMERA, cloud, truth

from aprloc_ros.geometry import invert, pose_errors, se3_exp
from aprloc_ros.refinement.gnc import Pinhole
from aprloc_ros.refinement.lens_evidence import offset_camera
from aprloc_ros.refinement.lens_matches import guess_lens

DECLARED = replace(CAMERA, fy=CAMERA.fx)


def matches(offsets, noise=0.0, wrong=0.0, seed=0):
    """Where a camera that is so far from the declared one sees points, [N, 2] and [N, 3], and its pose T_map_cam."""
    generator = np.random.default_rng(seed)
    T, xyz = truth(2), cloud(1500).xyz.numpy()
    pixels, _, seen = Pinhole.of(offset_camera(DECLARED, torch.tensor(offsets))).project(xyz, invert(T).numpy())
    pixels, xyz = pixels[seen] + generator.normal(0, noise, (seen.sum(), 2)), xyz[seen]
    lost = generator.random(len(xyz)) < wrong
    pixels[lost] += generator.uniform(-30, 30, (lost.sum(), 2))
    return pixels, xyz, T


def start(T):
    """T_cam_map near the truth."""
    return invert(T @ se3_exp(torch.tensor([0.02, -0.03, 0.02, 0.005, 0.01, -0.01]).double())).numpy()


@pytest.mark.parametrize('offsets', [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (-0.12, 0.02, 0.0), (0.0, -0.06, 0.05)])
def test_camera_and_pose_are_found_from_exact_matches(offsets):
    pixels, xyz, T = matches(offsets)
    found = guess_lens(pixels, xyz, Pinhole.of(DECLARED), start(T))
    torch.testing.assert_close(found.offsets, torch.tensor(offsets).double(), atol=2e-3, rtol=0)
    error_m, error_deg = pose_errors(found.T_map_cam, T)
    assert error_m < 0.02 and error_deg < 0.3


def test_wrong_matches_have_no_say():
    pixels, xyz, T = matches((0.08, 0.0, 0.0), noise=0.7, wrong=0.3)
    found = guess_lens(pixels, xyz, Pinhole.of(DECLARED), start(T))
    assert abs(found.offsets[0] - 0.08) < 0.01 and found.offsets[1:].abs().max() < 0.02


def test_it_leads_nowhere_from_too_few_or_degenerate_matches():
    pixels, xyz, T = matches((0.0, 0.0, 0.0))
    assert guess_lens(pixels[:5], xyz[:5], Pinhole.of(DECLARED), start(T)) is None
    nothing = guess_lens(np.full((20, 2), np.nan), xyz[:20], Pinhole.of(DECLARED), start(T))
    assert nothing is None
