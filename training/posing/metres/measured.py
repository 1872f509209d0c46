"""What posed images are, and what one source says of their frame."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.camera import Camera
from aprloc_ros.placement.geodesy import GeodeticOrigin
from aprloc_ros.placement.upright import rotation_between
from aprloc_ros.similarity import Similarity


@dataclass(frozen=True, eq=False)
class Posed:
    """N images with poses in a frame and unit of their own."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    T_map_cam: Tensor                 # [N, 4, 4] float64
    cameras: tuple[Camera, ...] = ()  # empty where no image is looked at
    stamps_s: Tensor | None = None    # [N] float64


@dataclass(frozen=True, eq=False)
class Measured:
    """change: to metres, and to axes of which as many mean something as the source could tell.

    up_sd_rad: of the direction of z; inf where the source says nothing of it and the cameras do. geodetic: of the new origin, where x is east and
    y north.
    """

    change: Similarity
    up_sd_rad: float
    text: str                               # for the user
    geodetic: GeodeticOrigin | None = None


def upright(scale: float, up: Tensor, scale_sd: float, source: str) -> Similarity:
    """The change of unit and the smallest turn that brings `up` [3] to z."""
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return Similarity(scale, rotation_between(up / up.norm(), z), torch.zeros(3, dtype=torch.float64), scale_sd, source)


def mean_direction(directions: Tensor, per: int) -> tuple[Tensor, float]:
    """Unit vectors [N, 3] -> the robust mean and its standard deviation in radians about each axis; neighbours of `per`
    err together.
    """
    mean = directions.mean(0)
    for _ in range(20):
        off = (directions - mean / mean.norm()).norm(dim=1)
        weights = 1 / (1 + (off / (2 * off.median()).clamp_min(1e-9)) ** 2)
        mean = (weights[:, None] * directions).sum(0)
    blocks = max(1.0, len(directions) / per)
    return mean / mean.norm(), (off.median().item() / 1.1774) / blocks ** 0.5 + 1e-6   # the median of a Rayleigh's
