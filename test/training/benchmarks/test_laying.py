"""One set of poses laid over another: what a similarity explains is no error, and orientations speak too."""

import torch
from evo.core.geometry import umeyama_alignment

from aprloc_ros.geometry import pose_errors, se3_exp, so3_exp
from aprloc_ros.similarity import Similarity
from aprloc_ros.training.benchmarks.measures.laying import errors_after_similarity, laid_over

TRUE = Similarity(0.4, so3_exp(torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64)), torch.tensor([3.0, -7.0, 1.0], dtype=torch.float64),
                  0.0, 'drawn')


def poses(count=60, spread=(1.0, 1.0, 1.0), seed=0):
    random = torch.Generator().manual_seed(seed)
    T = se3_exp(torch.randn(count, 6, generator=random, dtype=torch.float64))
    T[:, :3, 3] *= torch.tensor(spread, dtype=torch.float64)
    return T, random


def noisy(T, random, sd, sd_rad):
    T = T.clone()
    T[:, :3, 3] += sd * torch.randn(len(T), 3, generator=random, dtype=torch.float64)
    T[:, :3, :3] = T[:, :3, :3] @ so3_exp(sd_rad * torch.randn(len(T), 3, generator=random, dtype=torch.float64))
    return T


def test_exact_poses_are_laid_over_exactly_even_in_a_line():
    T, _ = poses(spread=(1.0, 0.0, 0.0))
    found = laid_over(T, TRUE.apply(T))
    torch.testing.assert_close(found.rotation, TRUE.rotation, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.translation, TRUE.translation, atol=1e-9, rtol=0)
    assert abs(found.scale - TRUE.scale) < 1e-9


def test_noise_is_measured_as_it_is():
    T, random = poses(2000)
    apart, turned_deg = errors_after_similarity(noisy(T, random, 0.05, 0.02), TRUE.apply(T))
    assert abs(apart / (0.4 * 0.05 * 3 ** 0.5) - 1) < 0.05
    assert abs(turned_deg / (torch.tensor(0.02).rad2deg().item() * 3 ** 0.5) - 1) < 0.05


def test_bent_places_of_cameras_close_together_do_not_turn_the_whole():
    """Places whose bend is as large as their extent: alone they turn the frame; the orientations, which are right, do not."""
    T, random = poses(300, spread=(0.1, 0.1, 0.1))
    bent = noisy(T, random, 0.0, 0.001)
    bent[:, 0, 3] += 0.5 * T[:, 1, 3]   # sheared
    R, _, _ = umeyama_alignment(bent[:, :3, 3].numpy().T, TRUE.points(T[:, :3, 3]).numpy().T, with_scale=True)
    by_places = bent.clone()
    by_places[:, :3, :3] = torch.from_numpy(R) @ bent[:, :3, :3]
    assert pose_errors(by_places, TRUE.apply(T))[1].median() > 5
    assert errors_after_similarity(bent, TRUE.apply(T))[1] < 0.2


def test_places_decide_where_orientations_are_rough():
    T, random = poses(300, spread=(50.0, 50.0, 50.0))
    found = laid_over(noisy(T, random, 0.001, 0.2), TRUE.apply(T))
    turn = found.rotation.T @ TRUE.rotation
    assert torch.rad2deg(torch.acos(((turn.trace() - 1) / 2).clamp(-1, 1))) < 0.001
