"""Positions on Earth and in the plane that touches it: WGS84 and local east, north, up."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

_A_M = 6_378_137.0               # WGS84's semi-major axis
_FLATTENING = 1 / 298.257223563
_E2 = _FLATTENING * (2 - _FLATTENING)
_B_M = _A_M * (1 - _FLATTENING)


@dataclass(frozen=True)
class GeodeticOrigin:
    """WGS84 position of a map's origin, whose x is east, y north and z up there."""

    latitude_deg: float = field(metadata={'range': (-90.0, 90.0)})
    longitude_deg: float = field(metadata={'range': (-180.0, 180.0)})
    altitude_m: float = field(metadata={'range': (-12_000.0, 100_000.0)})   # above the ellipsoid


def to_enu(origin: GeodeticOrigin, geodetic: Tensor) -> Tensor:
    """Latitude and longitude in degrees, altitude in metres [..., 3] -> east, north, up of the origin, metres [..., 3]."""
    here = torch.tensor([origin.latitude_deg, origin.longitude_deg, origin.altitude_m], dtype=torch.float64)
    return (_to_ecef(geodetic.double()) - _to_ecef(here)) @ _axes(origin)


def from_enu(origin: GeodeticOrigin, enu: Tensor) -> Tensor:
    """The inverse of to_enu, both [..., 3].

    Latitude by Bowring (Survey Review 23, 1976), closed form: on the ground and in the air exact to a micrometre.
    """
    here = torch.tensor([origin.latitude_deg, origin.longitude_deg, origin.altitude_m], dtype=torch.float64)
    x, y, z = (_to_ecef(here) + enu.double() @ _axes(origin).T).unbind(-1)
    p = torch.hypot(x, y)
    beta = torch.atan2(z * _A_M, p * _B_M)   # the parametric latitude of a point on the ellipsoid
    latitude = torch.atan2(z + _E2 / (1 - _E2) * _B_M * beta.sin() ** 3, p - _E2 * _A_M * beta.cos() ** 3)
    sine, cosine = latitude.sin(), latitude.cos()
    altitude_m = p * cosine + z * sine - _A_M * (1 - _E2 * sine ** 2).sqrt()
    return torch.stack([torch.rad2deg(latitude), torch.rad2deg(torch.atan2(y, x)), altitude_m], -1)


def _to_ecef(geodetic: Tensor) -> Tensor:
    """Earth-centred x, y, z in metres, [..., 3] -> [..., 3]."""
    latitude, longitude = torch.deg2rad(geodetic[..., 0]), torch.deg2rad(geodetic[..., 1])
    altitude_m = geodetic[..., 2]
    normal_m = _A_M / (1 - _E2 * latitude.sin() ** 2).sqrt()
    ring_m = (normal_m + altitude_m) * latitude.cos()
    return torch.stack([ring_m * longitude.cos(), ring_m * longitude.sin(),
                        (normal_m * (1 - _E2) + altitude_m) * latitude.sin()], -1)


def _axes(origin: GeodeticOrigin) -> Tensor:
    """East, north and up of the origin as columns in Earth-centred axes, [3, 3]."""
    a, b = math.radians(origin.latitude_deg), math.radians(origin.longitude_deg)
    return torch.tensor([[-math.sin(b), -math.sin(a) * math.cos(b), math.cos(a) * math.cos(b)],
                         [math.cos(b), -math.sin(a) * math.sin(b), math.cos(a) * math.sin(b)],
                         [0.0, math.cos(a), math.sin(a)]], dtype=torch.float64)
