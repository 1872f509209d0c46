"""How a pose that was seen moves on: by odometry with its noise, or blindly within the robot's speed."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aprloc_ros.geometry import adjoint, invert, se3_log, so3_log


def option(default: object, description: str, **allowed: object):
    """A dataclass field; allowed: `range` or `choices` as in aprloc_ros.config, and what else its readers know."""
    return field(default=default, metadata={'description': description, **allowed})


_NOISE = {'range': (0.0, 10.0), 'live': True}


@dataclass(frozen=True)
class MotionOptions:
    """How far a robot may be from where it was, after it moved."""

    odometry_noise_per_m: tuple[float, float] = option(
        (0.05, 0.02), 'Standard deviation of odometry per metre travelled: metres, radians', **_NOISE)
    odometry_noise_per_rad: tuple[float, float] = option(
        (0.02, 0.1), 'Standard deviation of odometry per radian turned: metres, radians', **_NOISE)
    odometry_noise_per_s: tuple[float, float] = option(
        (0.01, 0.005), 'Standard deviation of odometry per second: metres, radians', **_NOISE)
    max_speed_m_s: float = option(
        1.5, 'Without odometry: the robot moves no faster, in m/s', range=(0.01, 100.0), live=True)
    max_turn_rad_s: float = option(
        1.5, 'Without odometry: the robot turns no faster, in rad/s', range=(0.01, 20.0), live=True)


@dataclass(frozen=True, eq=False)
class Belief:
    """A pose that was seen, and how the robot went since."""

    time_s: float                # of the images' stamps
    T_map_base: Tensor           # [4, 4] float64
    seen_covariance: Tensor      # [6, 6] of xi in T_true = T_map_base @ exp(xi), without the noise of the way
    T_odom_base: Tensor | None   # [4, 4], the latest that is known
    path_m: float = 0.0
    turned_rad: float = 0.0
    odometry_s: float = 0.0      # time since it was seen that odometry accounts for
    blind_s: float = 0.0         # time since it was seen that nothing accounts for
    images: int = 0              # asked about since, the one in hand included

    @property
    def unseen_s(self) -> float:
        return self.odometry_s + self.blind_s

    def moved(self, time_s: float, T_odom_base: Tensor | None) -> 'Belief':
        """The belief at a later time, where odometry says T_odom_base [4, 4] (None: it says nothing).

        With D the motion that odometry saw, T_true' = T exp(xi) D = T D exp(Ad(D^-1) xi).
        """
        step_s = time_s - self.time_s
        images = self.images + (step_s > 0)
        if T_odom_base is None:
            return replace(self, time_s=time_s, blind_s=self.blind_s + step_s, images=images)
        if self.T_odom_base is None:
            return replace(self, time_s=time_s, blind_s=self.blind_s + step_s, images=images, T_odom_base=T_odom_base)
        D = invert(self.T_odom_base) @ T_odom_base
        A = adjoint(invert(D))
        return replace(
            self, time_s=time_s, images=images, T_map_base=self.T_map_base @ D, seen_covariance=A @ self.seen_covariance @ A.T,
            T_odom_base=T_odom_base, path_m=self.path_m + D[:3, 3].norm().item(),
            turned_rad=self.turned_rad + so3_log(D[:3, :3]).norm().item(), odometry_s=self.odometry_s + step_s)

    def covariance(self, options: MotionOptions) -> Tensor:
        """[6, 6] of xi in T_true = T_map_base @ exp(xi), the way included.

        Odometry's errors are mostly systematic (wheel radius, slip), so that their standard deviations grow with the
        way itself, not with its root (Borenstein and Feng, 1996). A robot that moved unseen for a time t is anywhere
        within max_speed * t: the standard deviation of that uniform distribution is its bound over sqrt(3).
        """
        covariance = self.seen_covariance + torch.diag(self._way_variance(options).repeat_interleave(3))
        return (covariance + covariance.T) / 2

    def is_vaguer_than_blind(self, blind_s: float, options: MotionOptions) -> bool:
        """Whether the way left less known than of a robot that moved unseen for so long, of its place or its direction."""
        return bool((self._way_variance(options) > _blind_variance(blind_s, options)).any())

    def _way_variance(self, options: MotionOptions) -> Tensor:
        """[2]: along and about each axis, m^2 and rad^2."""
        noise = (torch.tensor([options.odometry_noise_per_m, options.odometry_noise_per_rad,
                               options.odometry_noise_per_s], dtype=torch.float64)
                 * torch.tensor([[self.path_m], [self.turned_rad], [self.odometry_s]], dtype=torch.float64))
        return (noise ** 2).sum(0) + _blind_variance(self.blind_s, options)


def _blind_variance(blind_s: float, options: MotionOptions) -> Tensor:
    return (blind_s / math.sqrt(3) * torch.tensor([options.max_speed_m_s, options.max_turn_rad_s], dtype=torch.float64)) ** 2


def squared_distance(expected: Belief, seen: Belief, options: MotionOptions) -> float:
    """Squared Mahalanobis distance of two independent beliefs about one moment; of 6 degrees of freedom if both are true.

    From T_a exp(a) = T_b exp(b) follows log(T_a^-1 T_b) = a - b to first order: both covariances count.
    """
    xi = se3_log(invert(expected.T_map_base) @ seen.T_map_base)
    covariance = expected.covariance(options) + seen.covariance(options)
    return (xi @ torch.linalg.solve(covariance, xi)).item()
