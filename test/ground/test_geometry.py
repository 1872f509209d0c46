import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm, logm, polar
from scipy.spatial.transform import Rotation

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import (
    BODY_FROM_CV,
    GL_FROM_CV,
    LLFF_FROM_CV,
    adjoint,
    average_pose,
    check_pose,
    distances,
    invert,
    nearest_rotation,
    pose,
    pose_errors,
    quaternion_to_rotation,
    rotation_to_quaternion,
    se3_exp,
    se3_log,
    skew,
    so3_exp,
    so3_log,
)

ANGLES_RAD = [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 9e-5, 1.1e-4, 1e-3, 0.3, 1.7, 3.0, math.pi - 1e-4, math.pi - 1e-8]


def rotations(count, seed=0):
    """SciPy's random rotations and the same as a tensor [count, 3, 3]."""
    truth = Rotation.random(count, random_state=seed)
    return truth, torch.from_numpy(truth.as_matrix())


def vectors(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def poses(count, seed=0):
    return pose(rotations(count, seed)[1], 3 * vectors(count, 3, seed=seed))


def generator_of(xi):
    """The 4x4 matrix whose exponential is the transform, written out."""
    x, y, z, a, b, c = xi
    return np.array([[0, -c, b, x], [c, 0, -a, y], [-b, a, 0, z], [0, 0, 0, 0]])


def assert_rotation(R):
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones_like(R[..., 0, 0]))


def test_skew_is_the_cross_product():
    v, x = vectors(2, 5, 3)
    torch.testing.assert_close((skew(v) @ x.unsqueeze(-1))[..., 0], torch.linalg.cross(v, x))


@pytest.mark.parametrize('angle', ANGLES_RAD)
def test_so3_against_scipy(angle):
    axes = torch.nn.functional.normalize(vectors(6, 3), dim=-1)
    truth = Rotation.from_rotvec((angle * axes).numpy())
    R = so3_exp(angle * axes)
    np.testing.assert_allclose(R.numpy(), truth.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(so3_log(torch.from_numpy(truth.as_matrix())).numpy(), truth.as_rotvec(), atol=1e-13)


def test_so3_log_of_half_a_turn_is_one_of_the_two_answers():
    for axis in torch.eye(3, dtype=torch.float64):
        half_turn = 2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64)
        phi = so3_log(half_turn)
        assert phi.norm().item() == pytest.approx(math.pi)
        torch.testing.assert_close(so3_exp(phi), half_turn)


@pytest.mark.parametrize('angle', ANGLES_RAD)
def test_se3_round_trip_at_every_angle(angle):
    axes = torch.nn.functional.normalize(vectors(6, 3, seed=1), dim=-1)
    xi = torch.cat([4 * vectors(6, 3, seed=2), angle * axes], -1)
    T = se3_exp(xi)
    torch.testing.assert_close(T, torch.from_numpy(np.stack([expm(generator_of(x)) for x in xi.numpy()])))
    torch.testing.assert_close(se3_log(T), xi, atol=1e-10, rtol=1e-7)


def test_se3_log_against_scipys_matrix_logarithm():
    T = poses(8)
    for matrix, xi in zip(T.numpy(), se3_log(T).numpy()):
        np.testing.assert_allclose(generator_of(xi), logm(matrix).real, atol=1e-8)


def test_se3_exp_is_differentiable_also_at_zero():
    for xi in (vectors(2, 6), torch.zeros(6, dtype=torch.float64)):
        assert torch.autograd.gradcheck(se3_exp, xi.requires_grad_())


@pytest.mark.parametrize('exponential, size', [(so3_exp, 3), (se3_exp, 6)])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_an_exponential_of_what_is_not_finite_is_nan_and_so_is_its_gradient(exponential, size, value):
    spoiled = torch.zeros(2, size, dtype=torch.float64)
    spoiled[1, 0] = value
    assert exponential(spoiled).isnan().flatten(1).all(1).tolist() == [False, True]
    assert exponential(spoiled)[0].isfinite().all()
    xi = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    (exponential(xi) * value).sum().backward()
    assert not xi.grad.isfinite().any()


def test_se3_exp_at_zero_has_the_generators_as_derivative():
    jacobian = torch.autograd.functional.jacobian(se3_exp, torch.zeros(6, dtype=torch.float64))
    for i in range(6):
        np.testing.assert_allclose(jacobian[..., i].numpy(), generator_of(np.eye(6)[i]), atol=1e-15)


def test_invert_is_the_inverse_matrix():
    T = poses(10).view(2, 5, 4, 4)
    torch.testing.assert_close(invert(T), torch.linalg.inv(T))


def test_adjoint_moves_a_tangent_to_the_other_side():
    T, xi = poses(6), vectors(6, 6)
    left = se3_exp((adjoint(T) @ xi.unsqueeze(-1))[..., 0])
    torch.testing.assert_close(left, T @ se3_exp(xi) @ torch.linalg.inv(T))
    torch.testing.assert_close(adjoint(T[0] @ T[1]), adjoint(T[0]) @ adjoint(T[1]))


def test_nearest_rotation_is_the_polar_factor():
    matrices = rotations(20)[1] + 0.1 * vectors(20, 3, 3)
    for matrix, R in zip(matrices.numpy(), nearest_rotation(matrices).numpy()):
        np.testing.assert_allclose(R, polar(matrix)[0], atol=1e-10)


def test_nearest_rotation_of_a_reflection_is_the_best_rotation():
    """Wahba's problem, solved by another method: SciPy aligns the unit vectors with the matrix's columns."""
    for seed in range(10):
        matrix = vectors(3, 3, seed=seed)
        matrix = matrix * -torch.linalg.det(matrix).sign()
        R = nearest_rotation(matrix)
        assert_rotation(R)
        best = Rotation.align_vectors(matrix.T.numpy(), np.eye(3))[0].as_matrix()
        np.testing.assert_allclose(R.numpy(), best, atol=1e-6)


def test_nearest_rotation_of_a_mirror_image_is_never_a_mirror():
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    R = nearest_rotation(mirror)
    assert_rotation(R)
    assert (R - mirror).norm().item() == pytest.approx(2.0)  # no rotation is nearer: its trace with it is at most 1


@pytest.mark.parametrize('singular_values', [(1.0, 1.0, 1e-15), (1.0, 1e-14, 1e-15), (1.0, 0.5, 0.0), (0.0, 0.0, 0.0)])
def test_nearest_rotation_of_a_singular_matrix_is_a_rotation(singular_values):
    left, right = rotations(8, 1)[1], rotations(8, 2)[1]
    R = nearest_rotation(left @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ right)
    assert_rotation(R)
    if singular_values[1] > 0.1:  # the two large directions determine the third
        torch.testing.assert_close(R, left @ right, atol=1e-6, rtol=0)


def test_nearest_rotation_is_differentiable():
    matrix = (rotations(1)[1] + 0.1 * vectors(1, 3, 3)).requires_grad_()
    assert torch.autograd.gradcheck(nearest_rotation, matrix)


def test_quaternions_against_scipy():
    truth, R = rotations(200)
    q = torch.from_numpy(truth.as_quat())[:, [3, 0, 1, 2]]
    torch.testing.assert_close(quaternion_to_rotation(q), R)
    torch.testing.assert_close(quaternion_to_rotation(-7.5 * q), R)
    torch.testing.assert_close(rotation_to_quaternion(R), torch.where(q[:, :1] < 0, -q, q))


@pytest.mark.parametrize('q', [(0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0.6, 0, -0.8), (0, 0.48, 0.6, 0.64),
                               (1e-9, 0.6, 0.8, 0), (1, 0, 0, 0)])
def test_quaternion_of_half_a_turn(q):
    q = torch.tensor(q, dtype=torch.float64)
    R = quaternion_to_rotation(q)
    np.testing.assert_allclose(R.numpy(), Rotation.from_quat(q[[1, 2, 3, 0]].numpy()).as_matrix(), atol=1e-15)
    found = rotation_to_quaternion(R)
    assert found[0] >= 0
    assert (found @ q).abs().item() == pytest.approx(1.0, abs=1e-15)
    torch.testing.assert_close(quaternion_to_rotation(found), R)


@pytest.mark.parametrize('flip, right, down, forward', [
    (GL_FROM_CV, (1, 0, 0), (0, -1, 0), (0, 0, -1)),
    (LLFF_FROM_CV, (0, 1, 0), (1, 0, 0), (0, 0, -1)),
    (BODY_FROM_CV, (0, -1, 0), (0, 0, -1), (1, 0, 0))], ids=['opengl', 'llff', 'body'])
def test_axis_flips_send_each_direction_where_its_convention_says(flip, right, down, forward):
    """What an OpenCV camera sees right of, below and in front of itself, in the other convention's axes."""
    expected = torch.tensor([right, down, forward], dtype=torch.float64).T
    torch.testing.assert_close(flip[:3, :3], expected)
    assert_rotation(flip[:3, :3])
    assert flip[:3, 3].abs().max() == 0 and flip[3].tolist() == [0, 0, 0, 1]


def test_pose_errors_by_hand():
    T_truth = poses(1)[0]
    T_estimate = T_truth @ se3_exp(torch.tensor([0, 0, 0, 0, math.radians(30), 0], dtype=torch.float64))
    T_estimate[:3, 3] += torch.tensor([0.3, 0.0, -0.4])
    error_m, error_deg = pose_errors(T_estimate, T_truth)
    assert (error_m.item(), error_deg.item()) == (pytest.approx(0.5), pytest.approx(30))


def test_pose_errors_against_scipy_and_for_a_rotation_that_is_not_one():
    (a, R_a), (b, R_b) = rotations(50, 3), rotations(50, 4)
    _, error_deg = pose_errors(pose(1.7 * R_a, torch.zeros(50, 3)), pose(R_b, torch.zeros(50, 3)))
    np.testing.assert_allclose(error_deg.numpy(), np.degrees((a.inv() * b).magnitude()), atol=1e-9)


def test_average_pose_against_scipys_mean():
    truth = Rotation.from_rotvec(0.3 * vectors(30, 3).numpy())
    T = pose(torch.from_numpy(truth.as_matrix()), vectors(30, 3, seed=1))
    average = average_pose(T)
    np.testing.assert_allclose(average[:3, :3].numpy(), truth.mean().as_matrix(), atol=1e-10)
    np.testing.assert_allclose(average[:3, 3].numpy(), T[:, :3, 3].numpy().mean(0))


def test_check_pose_makes_a_nearly_rigid_pose_rigid():
    T = poses(1)[0]
    rough = T.clone()
    rough[:3, :3] *= 1.004  # as of a text file with three decimals
    checked = check_pose(rough, 'poses.txt:3')
    torch.testing.assert_close(checked, T)
    assert_rotation(checked[:3, :3])


@pytest.mark.parametrize('change, complaint', [
    (lambda T: T[:3], r'4x4 matrix, not of shape \(3, 4\)'),
    (lambda T: T.index_fill(0, torch.tensor(1), math.nan), 'holds NaN or infinity'),
    (lambda T: T.index_fill(1, torch.tensor(3), math.inf), 'holds NaN or infinity'),
    (lambda T: 1.01 * T, 'not a rotation: .* by 0.0201'),
    (lambda T: torch.zeros(4, 4, dtype=T.dtype), 'not a rotation: .* by 1 '),
    (lambda T: T @ torch.diag(torch.tensor([1.0, 1, -1, 1], dtype=T.dtype)), r'det R is -1.000 \(must be \+1\)')])
def test_check_pose_refuses_in_one_line_that_begins_with_the_place(change, complaint):
    with pytest.raises(AprlocError, match=complaint) as refusal:
        check_pose(change(poses(1)[0]), 'poses.txt:3')
    assert str(refusal.value).startswith('poses.txt:3: ') and '\n' not in str(refusal.value)


def test_distances_are_the_same_wherever_the_origin_is():
    a, b = (5 * torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (60, 40))
    far = torch.tensor([500_000.0, 5_400_000.0, 300.0], dtype=torch.float64)
    expected = (a[:, None] - b).norm(dim=2)
    torch.testing.assert_close(distances(a, b), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(distances(a + far, b + far), expected, atol=1e-8, rtol=0)
