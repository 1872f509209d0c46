"""WGS84 and local planes: points that are known, a table, and there and back."""

import pytest
import torch

from aprloc_ros.placement.geodesy import GeodeticOrigin, from_enu, to_enu


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


BERLIN = GeodeticOrigin(52.52, 13.405, 80.0)


def test_degrees_are_as_long_as_the_ellipsoid_says():
    """Radii of curvature at the equator: b^2 / a along the meridian, a along the circle; and the poles' distance."""
    a, b, step = 6_378_137.0, 6_356_752.314245, 1e-5
    equator = GeodeticOrigin(0.0, 0.0, 0.0)
    enu = to_enu(equator, table([0, step, 0], [step, 0, 0], [0, 0, 12.5]))
    radians = torch.deg2rad(torch.tensor(step, dtype=torch.float64)).item()
    assert enu[0].tolist() == pytest.approx([a * radians, 0, 0], abs=1e-6)
    assert enu[1].tolist() == pytest.approx([0, b * b / a * radians, 0], abs=1e-6)
    assert enu[2].tolist() == pytest.approx([0, 0, 12.5], abs=1e-9)
    assert to_enu(equator, table([90, 0, 0]))[0].tolist() == pytest.approx([0, b, -a], abs=1e-3)


@pytest.mark.parametrize('origin', [BERLIN, GeodeticOrigin(-33.9, 151.2, -10.0), GeodeticOrigin(0.0, 180.0, 0.0),
                                    GeodeticOrigin(89.9, -70.0, 3000.0)])
def test_there_and_back(origin):
    enu = 5000 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    geodetic = from_enu(origin, enu)
    assert (to_enu(origin, geodetic) - enu).abs().max() < 1e-5
    assert from_enu(origin, torch.zeros(3)).tolist() == pytest.approx(
        [origin.latitude_deg, origin.longitude_deg, origin.altitude_m], abs=1e-8)


def test_the_axes_are_east_north_up():
    enu = to_enu(BERLIN, table([52.521, 13.405, 80], [52.52, 13.406, 80], [52.52, 13.405, 81]))
    assert enu.argmax(1).tolist() == [1, 0, 2]
    assert (enu.amax(1) > 0.9).all()
