"""Depth images against points that poses and images put into them: their unit, their kind, and whether they are registered."""

from itertools import product

import numpy as np

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.checks.depth_samples import DepthView, depth_views
from aprloc_ros.training.datasets.capture import Frame, SparsePoints

_FEWEST = 50
_RIGHT = 0.1       # of the logarithm of the ratio: poses, lens and sensor are not better than so
_USUAL = 0.05
_SPREAD = 0.35     # median deviation of that logarithm: nothing fits
_ALIKE = 0.3       # by which it may differ between images, the outer tenths aside
_FEWEST_EACH = 10  # points of an image that count there
_STRETCHED = 0.3   # of the deviation from a line through the origin
_ROUNDS = 10
_OUTLIER = 0.3     # a deviation of more says no more
_REGISTERED = 0.5  # what lies elsewhere must fit so much better
_COVERED = 0.8     # and have so many of the points
_EXACT = 0.01      # depths that fit so well are registered
_UNITS_M = {'1 m': 1.0, '1 cm': 0.01, '1/256 m': 1 / 256, '1 mm': 1e-3, '1/4 mm': 2.5e-4, '1/5 mm': 2e-4, '0.1 mm': 1e-4}
_FAR = 200.0       # a median depth of more is none in metres where depth images hold less
_SHIFTS, _ZOOMS = np.arange(-0.12, 0.125, 0.02), (0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.3)


def depth_factor(frames: tuple[Frame, ...], points: SparsePoints, report=print) -> float:
    """What depths as declared must be multiplied by to agree with the points; 1 where they do, or where nothing can be said.

    points: with observations by the frames. Raises AprlocError where no usual unit makes them agree, or where they are none.
    """
    views = depth_views(frames, points)
    ratios = [np.log(view.declared_m() / view.depth_m) for view in views]
    known = np.isfinite(np.concatenate(ratios)) if views else np.zeros(0, bool)
    if known.sum() < _FEWEST:
        report(f'depth: unit not checked, only {known.sum()} points have a depth (at least {_FEWEST} needed)')
        return 1.0
    ratio, true_m, slant = (np.concatenate(parts)[known] for parts in (
        ratios, [view.depth_m for view in views], [view.slant for view in views]))
    _check_stretched(views)
    _check_kind(ratio, true_m, slant)
    _check_registered(views)
    _check_alike(ratios)
    centre, spread = _centre_and_spread(ratio)
    if spread > _SPREAD:
        low, high = np.exp(np.quantile(ratio, (0.1, 0.9)))
        raise AprlocError(f'the depth images do not fit the points: their ratio goes from {low:.3g} to {high:.3g}; are they '
                          f'aligned with the colour images, and of the same time?')
    if abs(centre) < _RIGHT:
        report(f'depth: {np.exp(centre):.3f} times that of {len(ratio)} points, as declared')
        return 1.0
    return _another_unit(frames[0].depth_unit_m, centre, float(np.median(true_m)), len(ratio), report)


def _another_unit(declared_m: float, centre: float, true_m: float, count: int, report) -> float:
    if true_m > _FAR > np.exp(centre) * true_m:
        raise AprlocError(f'the poses say depths of {true_m:.4g} in the median, the depth images {np.exp(centre) * true_m:.3g} m '
                          f'({count} points): the positions look like millimetres or centimetres: bring them to metres (or declare '
                          f'the unit of the depth images)')
    unit_m = declared_m / np.exp(centre)
    for name, usual_m in _UNITS_M.items():
        if abs(np.log(unit_m / usual_m)) < _USUAL:
            report(f'WARNING: depth: a unit of the depth images is {name}, not {declared_m:.4g} m as declared: so '
                   f'{count} points say')
            return usual_m / declared_m
    raise AprlocError(f'the depth images say {np.exp(centre):.3g} times the depths that images and poses do ({count} points): '
                      f'a unit would be {unit_m:.4g} m, which is none of the usual ones ({", ".join(_UNITS_M)}); declare it, or '
                      f'bring poses and depths to metres')


def _check_stretched(views: list[DepthView]):
    """Each image from its own nearest to its own farthest, as pictures of depth are: a line through no common origin."""
    each = [(value[known], view.depth_m[known]) for view in views if (known := np.isfinite(value := view.declared_m())).sum() >= _FEWEST_EACH]
    as_depths, as_disparities = ([_line_misfits(value, x) for value, x in ((value, depth_m ** power) for value, depth_m in each)]
                                 for power in (1, -1))
    for text, misfits in (('depths', as_depths), ('disparities', as_disparities)):
        straight = np.median([with_offset for _, with_offset in misfits]) if misfits else np.inf
        plain = min(np.median([without for without, _ in found]) for found in (as_depths, as_disparities)) if misfits else 0.0
        if plain > _USUAL and straight < _STRETCHED * plain:
            raise AprlocError(f'the depth images hold {text} that were stretched in each image by itself, from its nearest to its farthest '
                              'point (normalised, as for a picture): they have no unit; give them as the sensor made them')


def _line_misfits(value: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Median deviation of values from a line through the origin, and from any line, relative to their median."""
    lines = x[:, None], np.stack([x, np.ones_like(x)], 1)
    return tuple(float(np.median(np.abs(value - columns @ _least_absolute(columns, value))) / np.median(value)) for columns in lines)


def _least_absolute(columns: np.ndarray, value: np.ndarray) -> np.ndarray:
    weight = np.ones(len(value))
    for _ in range(_ROUNDS):
        found = np.linalg.lstsq(columns * weight[:, None], value * weight, rcond=None)[0]
        errors = np.abs(value - columns @ found)
        weight = 1 / np.sqrt(errors.clip(np.median(errors) / 10 + 1e-12))
    return found


def _check_kind(ratio: np.ndarray, true_m: np.ndarray, slant: np.ndarray):
    _, spread = _centre_and_spread(ratio)
    if spread > _USUAL / 5 and _centre_and_spread(ratio - np.log(slant))[1] < spread / 2:
        raise AprlocError('the depth images hold distances from the camera, as the points say; they must hold depths along '
                          'its axis (z): convert them')
    if _centre_and_spread(ratio + 2 * np.log(true_m))[1] < spread / 2:
        raise AprlocError('the depth images grow where the points come nearer: they hold disparities; convert them to depths')


def _check_alike(ratios: list[np.ndarray]):
    """Several units, or the relative depths of a network."""
    known = [found for found in (ratio[np.isfinite(ratio)] for ratio in ratios) if len(found) >= _FEWEST_EACH]
    if not known:
        return
    low, high = np.quantile([np.median(ratio) for ratio in known], (0.1, 0.9))
    within = np.median(np.concatenate([np.abs(ratio - np.median(ratio)) for ratio in known]))
    if high - low > _ALIKE and within < _SPREAD / 2:
        raise AprlocError(f'the depth images differ in scale from one to the next: they say {np.exp(low):.3g} to {np.exp(high):.3g} times '
                          f'the depths that images and poses do; are they of several units, relative ones of a network, or normalised as for a picture? they must '
                          f'hold metres in one unit')


def _check_registered(views: list[DepthView]):
    """Where other pixels, or another image, hold what these should."""
    declared, count = _misfit([view.declared_m() for view in views], views)
    limit, found = _REGISTERED * declared, ''
    for text, values in _elsewhere(views) if declared > _EXACT else ():
        misfit, known = _misfit(values, views)
        if misfit < limit and known > _COVERED * count:
            limit, found = misfit, text
    if found:
        raise AprlocError(f'the depth images do not lie on the colour images: points fit them {found}; register them to colour')


def _elsewhere(views: list[DepthView]):
    """(in words, declared depths of each view) of the usual ways in which depth is not registered."""
    yield 'if they are mirrored', [view.declared_m(lambda uv, size: np.stack([size[0] - 1 - uv[:, 0], uv[:, 1]], 1)) for view in views]
    yield 'if they are turned by a half', [view.declared_m(lambda uv, size: size - 1 - uv) for view in views]
    yield 'if each is of the image before it', [view.declared_m(image=view.neighbour(1)) for view in views]
    yield 'if each is of the image after it', [view.declared_m(image=view.neighbour(-1)) for view in views]
    for zoom in _ZOOMS:
        yield f'if they are magnified by {1 / zoom:.2f}', [
            view.declared_m(lambda uv, size, zoom=zoom: zoom * (uv - size / 2) + size / 2) for view in views]
    for x, y in product(_SHIFTS, _SHIFTS):
        yield f'if they are moved by {round(-100 * x)} % of their width and {round(-100 * y)} % of their height', [
            view.declared_m(lambda uv, size, by=(x, y): uv + size * by) for view in views]


def _misfit(values: list[np.ndarray], views: list[DepthView]) -> tuple[float, int]:
    """Mean deviation of the logarithm from its median, whatever the unit, and the number of points that have a depth."""
    ratio = np.concatenate([np.log(value / view.depth_m) for value, view in zip(values, views)])
    ratio = ratio[np.isfinite(ratio)]
    return (float(np.abs(ratio - np.median(ratio)).clip(0, _OUTLIER).mean()) if len(ratio) else np.inf), len(ratio)


def _centre_and_spread(values: np.ndarray) -> tuple[float, float]:
    centre = float(np.median(values))
    return centre, float(np.median(np.abs(values - centre)))
