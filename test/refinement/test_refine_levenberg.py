"""The robust search, against closed forms, SciPy and the statistics of its own noise."""

import math

import pytest
import torch
from refine_fixtures import seeded
from scipy.optimize import least_squares

from aprloc_ros.camera import Camera
from aprloc_ros.covariance import residuals as pose_residuals
from aprloc_ros.geometry import invert, pose_errors, se3_exp
from aprloc_ros.refinement.feature_grid import project
from aprloc_ros.refinement.levenberg import (
    Kernel,
    LevenbergSettings,
    Residuals,
    is_solvable,
    minimise,
    normal_equations,
    robust_variance,
)

CAMERA = Camera(640, 480, 500.0, 510.0, 320.0, 240.0)
LEAST_SQUARES = LevenbergSettings(longest_stretch=1.0, kernel=Kernel(shape=2.0))


def always(done, limit=30):
    return done < limit


def points_in_view(count, generator):
    uv = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([600.0, 440.0]) + 20
    depth = 1 + 4 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return torch.cat([(uv - torch.tensor([320.0, 240.0])) / torch.tensor([500.0, 510.0]), torch.ones(count, 1)], 1) * depth


def reprojection(points, observed):
    """Residuals of pixels: points [N, 3] in the map, observed [N, 2]."""
    def linearise(T_map_cam):
        pixels, jacobian, seen = project(points.expand(len(T_map_cam), -1, -1), T_map_cam, CAMERA)
        r = pixels - observed
        identity = torch.eye(2, dtype=torch.float64).expand(*seen.shape, 2, 2)
        return Residuals(r.square().sum(-1), r, identity, jacobian, torch.ones_like(seen))
    return linearise


def scene(seed=0, count=200, noise=0.0):
    generator = seeded(seed)
    T = se3_exp(torch.randn(6, generator=generator, dtype=torch.float64))
    in_camera = points_in_view(count, generator)
    points = in_camera @ T[:3, :3].T + T[:3, 3]
    pixels = project(points[None], T[None], CAMERA)[0][0]
    return T, points, pixels + noise * torch.randn(count, 2, generator=generator, dtype=torch.float64)


def perturbed(T, count, size, seed=1):
    xi = size * torch.randn(count, 6, generator=seeded(seed), dtype=torch.float64)
    return T @ se3_exp(xi)


@pytest.mark.parametrize('shape', [2.0, 1.0, 0.0, -2.0, -7.5])
def test_the_weight_is_twice_the_slope_of_the_cost_and_both_start_as_least_squares(shape):
    kernel, z = Kernel(shape, 1.7), torch.linspace(0.0, 30.0, 40, dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(kernel.cost(z).sum(), z)
    torch.testing.assert_close(kernel.weight(z), 2 * slope)
    assert kernel.weight(torch.zeros(1)).item() == 1.0
    assert kernel.cost(torch.tensor(1e-4)).item() == pytest.approx(0.5e-4, rel=1e-3)


def test_named_kernels_are_the_textbooks():
    """With x = residual / width: Cauchy log(1 + x^2 / 2), Charbonnier sqrt(1 + x^2) - 1, Geman-McClure 2 x^2 / (x^2 + 4)."""
    z, width = torch.linspace(0.0, 30.0, 40, dtype=torch.float64), 1.7
    x2 = z / width ** 2
    torch.testing.assert_close(Kernel(0.0, width).cost(z), width ** 2 * torch.log1p(x2 / 2))
    torch.testing.assert_close(Kernel(1.0, width).cost(z), width ** 2 * (torch.sqrt(1 + x2) - 1))
    torch.testing.assert_close(Kernel(-2.0, width).cost(z), width ** 2 * 2 * x2 / (x2 + 4))


@pytest.mark.parametrize('components', [1, 2, 16, 128])
def test_the_robust_variance_is_that_of_normal_noise_though_a_third_are_outliers_that_nobody_saw(components):
    r = 0.3 * torch.randn(2, 6000, components, generator=seeded(3), dtype=torch.float64)
    seen = torch.ones(2, 6000, dtype=torch.bool)
    r[:, 4000:] = 50.0
    seen[:, 4000:] = False
    variance = robust_variance(r.square().sum(-1), seen, components)
    torch.testing.assert_close(variance.sqrt(), torch.full((2,), 0.3, dtype=torch.float64), rtol=0.04, atol=0)


def test_the_variance_of_nothing_seen_is_a_number():
    variance = robust_variance(torch.ones(1, 5), torch.zeros(1, 5, dtype=torch.bool), 3)
    assert torch.isfinite(variance).all() and (variance > 0).all()


def test_every_start_finds_the_pose():
    T, points, pixels = scene()
    starts = perturbed(T, 5, 0.1)
    solution = minimise(starts, reprojection(points, pixels), torch.ones(5, 200, dtype=torch.float64), 2, LEAST_SQUARES, always)
    error_m, error_deg = pose_errors(solution.T_map_cam, T.expand(5, 4, 4))
    assert error_m.max() < 1e-9 and error_deg.max() < 1e-6
    assert solution.converged and solution.iterations <= 12


def test_starts_do_not_disturb_each_other():
    T, points, pixels = scene(noise=0.5)
    starts = perturbed(T, 4, 0.15)
    ones = torch.ones(4, 200, dtype=torch.float64)

    def run(starts):
        return minimise(starts, reprojection(points, pixels), ones[:len(starts)], 2,
                        LevenbergSettings(tolerance_m=0.0), lambda done: always(done, 6)).T_map_cam
    together = run(starts)
    for start, result in zip(starts, together):
        torch.testing.assert_close(run(start[None])[0], result, rtol=0, atol=1e-9)


def test_least_squares_and_its_hessian_are_scipys():
    T, points, pixels = scene(noise=0.7)
    weights = torch.rand(1, 200, generator=seeded(9), dtype=torch.float64)

    def weighted(xi):
        projected = project(points[None], (T @ se3_exp(torch.from_numpy(xi)))[None], CAMERA)[0][0]
        return (weights[0].sqrt()[:, None] * (projected - pixels)).flatten().numpy()
    reference = least_squares(weighted, [0.0] * 6, method='lm', xtol=1e-12, ftol=1e-12)
    T_reference = T @ se3_exp(torch.from_numpy(reference.x))
    solution = minimise(T[None], reprojection(points, pixels), weights, 2, LEAST_SQUARES, always)
    assert pose_residuals(solution.T_map_cam[0], T_reference).abs().max() < 1e-6
    hessian, gradient = normal_equations(solution.residuals, weights, solution.variance, 2, LEAST_SQUARES.kernel)
    scipys = torch.from_numpy(reference.jac.T @ reference.jac)
    torch.testing.assert_close(hessian[0] * solution.variance, scipys, rtol=0.01, atol=0.01 * scipys.max().item())
    assert (gradient[0] * solution.variance).abs().max() < 1e-6 * scipys.max()


def test_the_whitened_hessian_is_the_information_of_the_estimate():
    """Poses that are estimated again and again under normal noise scatter as the Hessian's inverse says."""
    T, points, clean = scene(count=60)
    rounds = 400
    noisy = clean + 0.8 * torch.randn(rounds, 60, 2, generator=seeded(4), dtype=torch.float64)
    starts = T.expand(rounds, 4, 4).contiguous()
    solution = minimise(starts, reprojection(points, noisy), torch.ones(rounds, 60, dtype=torch.float64), 2,
                        LEAST_SQUARES, always)
    hessian, _ = normal_equations(solution.residuals, torch.ones(rounds, 60, dtype=torch.float64), solution.variance, 2,
                                  LEAST_SQUARES.kernel)
    xi = pose_residuals(solution.T_map_cam, starts)
    mahalanobis = (xi[:, None] @ hessian @ xi[..., None]).flatten()
    assert mahalanobis.median().item() == pytest.approx(5.35, rel=0.15)   # of chi-square with six degrees of freedom


def test_steps_that_are_systematically_short_are_stretched():
    """A metric five times too large, as noise makes it: the same pose in far fewer iterations."""
    T, points, pixels = scene()
    start = perturbed(T, 1, 0.05)
    iterations = []

    def linearise(T_map_cam):
        good = reprojection(points, pixels)(T_map_cam)
        return Residuals(good.squared, good.slope, 5 * good.metric, good.jacobian, good.seen)
    for longest in (1.0, 8.0):
        settings = LevenbergSettings(longest_stretch=longest, kernel=Kernel(shape=2.0))
        solution = minimise(start, linearise, torch.ones(1, 200, dtype=torch.float64), 2, settings, lambda done: done < 200)
        assert pose_errors(solution.T_map_cam[0], T)[0] < 1e-3
        iterations.append(solution.iterations)
    assert iterations[1] < 0.6 * iterations[0]


def test_outliers_do_not_pull():
    T, points, pixels = scene(noise=0.3)
    pixels[:70] += 60 * torch.randn(70, 2, generator=seeded(5), dtype=torch.float64)
    ones = torch.ones(1, 200, dtype=torch.float64)
    start = perturbed(T, 1, 0.03)
    robust, plain = (minimise(start, reprojection(points, pixels), ones, 2, settings, always).T_map_cam
                     for settings in (LevenbergSettings(kernel=Kernel(-2.0, 1.5)), LEAST_SQUARES))
    assert pose_errors(robust[0], T)[0] < 0.002 < 0.05 * pose_errors(plain[0], T)[0]


def test_weights_of_zero_leave_points_out():
    T, points, pixels = scene()
    pixels[:50] += 40.0
    weights = torch.ones(1, 200, dtype=torch.float64)
    weights[:, :50] = 0
    solution = minimise(perturbed(T, 1, 0.05), reprojection(points, pixels), weights, 2, LEAST_SQUARES, always)
    assert pose_errors(solution.T_map_cam[0], T)[0] < 1e-8


@pytest.mark.parametrize('value', [0.0, math.nan, math.inf])
def test_a_start_that_cannot_move_stays(value):
    T, points, pixels = scene()

    def linearise(T_map_cam):
        good = reprojection(points, pixels)(T_map_cam)
        slope, metric, squared = good.slope.clone(), good.metric.clone(), good.squared.clone()
        slope[0], metric[0], squared[0] = value, value, value
        return Residuals(squared, slope, metric, good.jacobian, good.seen)
    starts = perturbed(T, 2, 0.05)
    solution = minimise(starts, linearise, torch.ones(2, 200, dtype=torch.float64), 2, LEAST_SQUARES, always)
    assert torch.equal(solution.T_map_cam[0], starts[0])
    assert pose_errors(solution.T_map_cam[1], T)[0] < 1e-8


def test_no_more_iterations_than_allowed_and_each_is_observed():
    T, points, pixels = scene(noise=1.0)
    seen = []
    solution = minimise(perturbed(T, 2, 0.1), reprojection(points, pixels), torch.ones(2, 200, dtype=torch.float64), 2,
                        LEAST_SQUARES, lambda done: done < 3, lambda T, residuals: seen.append((T, residuals)))
    assert solution.iterations == len(seen) == 3 and not solution.converged
    assert torch.equal(seen[-1][0], solution.T_map_cam)
    costs = [residuals.squared.sum(-1) for _, residuals in seen]
    assert (costs[0] >= costs[1]).all() and (costs[1] >= costs[2]).all()


def test_a_hessian_that_leaves_a_direction_open_is_not_solvable():
    A = torch.randn(20, 6, generator=seeded(6), dtype=torch.float64)
    assert is_solvable(A.T @ A)
    A[:, 3] = A[:, 1]
    assert not is_solvable(A.T @ A)
    assert not is_solvable(torch.zeros(6, 6, dtype=torch.float64))
    assert not is_solvable(torch.full((6, 6), math.nan, dtype=torch.float64))


def test_the_pose_does_not_depend_on_where_the_map_has_its_origin():
    """A map in the coordinates of a town loses nothing."""
    T, points, pixels = scene()
    far = se3_exp(torch.tensor([4.5e5, 5.4e6, 300.0, 0.0, 0.0, 2.0], dtype=torch.float64))
    start = perturbed(T, 1, 0.1)
    moved = points @ far[:3, :3].T + far[:3, 3]
    solution = minimise(far @ start, reprojection(moved, pixels), torch.ones(1, 200, dtype=torch.float64), 2,
                        LEAST_SQUARES, always)
    assert pose_errors(invert(far) @ solution.T_map_cam[0], T)[0] < 1e-6
