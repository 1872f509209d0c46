"""Pictures of localised frames beside their truth: green is the truth, red the estimate, as in the papers' figures."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aprloc_ros.scoring.evaluation import FrameRecord, residuals_and_covariances
from aprloc_ros.scoring.uncertainty_figure import draw_reliability

TRUTH, ESTIMATE, ERROR, REFERENCE, REFUSED = '#2e7d32', '#c62828', '#9e9e9e', '#424242', '#1565c0'
STYLE = {'figure.dpi': 110, 'savefig.dpi': 110, 'font.size': 10, 'axes.grid': True, 'grid.color': '#e0e0e0',
         'axes.spines.top': False, 'axes.spines.right': False, 'axes.axisbelow': True, 'legend.frameon': False}
WORST_COUNT = 10
WIDE = 12                 # inches, of the sheet of pictures
_THUMBNAIL = 360          # pixels of the longer side
_TIME_GAP = 5             # times the usual step: a line is not drawn across a longer pause
Item = TypeVar('Item')
# Gives the pictures of a record by their titles, each [H, W, 3] uint8 RGB; the first is the query.
Views = Callable[[FrameRecord], Mapping[str, np.ndarray]]


def styled() -> matplotlib.rc_context:
    """Figures look alike when drawn and saved inside this context."""
    return matplotlib.rc_context(STYLE)


def trajectory_figure(records: Sequence[FrameRecord]) -> Figure:
    """Seen from above: along the map axis nearest to the cameras' mean vertical."""
    T = torch.stack([record.T_truth for record in records])
    truth, estimate = T[:, :3, 3].numpy(), torch.stack([r.T_estimate[:3, 3] for r in records]).numpy()
    i, j = ground_axes(T[:, :3, 1].mean(0))
    figure = Figure(layout='constrained')
    axes = figure.subplots()
    axes.plot(np.stack([truth[:, i], estimate[:, i]]), np.stack([truth[:, j], estimate[:, j]]), color=ERROR, lw=0.7)
    for start, end in _unbroken([record.stamp_s for record in records]):
        axes.plot(truth[start:end, i], truth[start:end, j], '-', color=TRUTH, lw=1.2, alpha=0.6)
    axes.plot(truth[:, i], truth[:, j], 'o', color=TRUTH, ms=4, label='truth')
    axes.plot(estimate[:, i], estimate[:, j], 'o', color=ESTIMATE, ms=3, label='estimate')
    low, high = truth[:, [i, j]].min(0), truth[:, [i, j]].max(0)
    margin = 0.25 * (high - low).max() + 2 * np.median([record.error_m for record in records]) + 1e-3
    seen = estimate[:, [i, j]]
    low, high = np.maximum(low - margin, np.minimum(low, seen.min(0)) - 0.1 * margin), \
        np.minimum(high + margin, np.maximum(high, seen.max(0)) + 0.1 * margin)
    axes.set(xlabel=f'map {"xyz"[i]} [m]', ylabel=f'map {"xyz"[j]} [m]', xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_aspect('equal')
    ratio = (high[1] - low[1]) / (high[0] - low[0])
    figure.set_size_inches(max(5, min(9, 7 / ratio)), np.clip(9 * ratio, 2.7, 7) + 0.8)
    outside = int(((seen < low) | (seen > high)).any(1).sum())
    axes.set_title(f'{len(records)} frames' + (f', {outside} estimates outside the picture' if outside else ''))
    axes.legend(loc='best')
    return figure


def path_figure(T_map_cam: torch.Tensor) -> Figure:
    """Estimates [N, 4, 4] seen from above, where no truth is known."""
    i, j = ground_axes(T_map_cam[:, :3, 1].mean(0))
    figure = Figure(figsize=(9, 7), layout='constrained')
    axes = figure.subplots()
    axes.plot(T_map_cam[:, i, 3], T_map_cam[:, j, 3], 'o', color=ESTIMATE, ms=3)
    axes.set(xlabel=f'map {"xyz"[i]} [m]', ylabel=f'map {"xyz"[j]} [m]', title=f'{len(T_map_cam)} frames')
    axes.set_aspect('equal', 'datalim')
    return figure


def ground_axes(down: torch.Tensor) -> tuple[int, int]:
    """The map's axes to the right and upwards of a top view, right-handed, for the cameras' mean y axis [3]."""
    i, j = (axis for axis in range(3) if axis != down.abs().argmax().item())
    looks_up = down[3 - i - j] * (1 if (i, j) != (0, 2) else -1) > 0
    return (j, i) if looks_up else (i, j)


def error_figure(records: Sequence[FrameRecord], refused_s: Sequence[float] = ()) -> Figure:
    """Metres and degrees against the time of the drive, and what the covariances let expect.

    refused_s: stamps of frames that got no pose.
    """
    start_s = min([records[0].stamp_s, *refused_s])
    time_s = np.array([record.stamp_s for record in records]) - start_s
    figure = Figure(figsize=(9, 5.5), layout='constrained')
    for axes, values, expected, label in zip(
            figure.subplots(2, sharex=True), errors_of(records), _expected(records),
            ('translation error [m]', 'rotation error [deg]'), strict=True):
        axes.plot(time_s, values, '.', color=ESTIMATE, ms=5)
        axes.axhline(np.median(values), color=REFERENCE, lw=1, ls='--', label=f'median {np.median(values):.3g}')
        top = 1.1 * max(values.max(), 1e-6)
        if expected is not None:
            axes.plot(time_s, expected, color=REFUSED, lw=0.8,
                      label=f'expected, rms of the covariance (median {np.median(expected):.3g})')
            top = max(top, 1.1 * expected.max() if expected.max() < 2 * top else 0)
        if len(refused_s):
            axes.plot(np.array(refused_s) - start_s, np.zeros(len(refused_s)), '|', color=REFUSED, ms=12, mew=1.5,
                      label=f'no pose, {len(refused_s)} frames')
        axes.set(ylabel=label, ylim=(-0.02 * top, top))
        axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, fontsize=9, borderaxespad=0)
    axes.set_xlabel('time since the first frame [s]')
    return figure


def distribution_figure(records: Sequence[FrameRecord]) -> Figure:
    """Histogram of both errors and the share of the frames within an error, on a logarithmic axis."""
    figure = Figure(figsize=(9, 4), layout='constrained')
    for axes, values, label, unit in zip(figure.subplots(1, 2, sharey=True), errors_of(records),
                                         ('translation error [m]', 'rotation error [deg]'), ('m', 'deg'), strict=True):
        _draw_distribution(axes, np.maximum(np.sort(values), 1e-6), unit)
        axes.set(xlabel=label, xscale='log', ylim=(0, 102))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('')
    figure.axes[0].set_ylabel('frames [%]')
    return figure


def _draw_distribution(axes: Axes, ordered: np.ndarray, unit: str) -> None:
    edges = np.geomspace(ordered[0] * 0.98, ordered[-1] * 1.02, 25)
    count, _ = np.histogram(ordered, edges)
    axes.stairs(100 * count / len(ordered), edges, fill=True, color=ERROR, alpha=0.5)
    axes.step([edges[0], *ordered, edges[-1]], 100 * np.array([0, *range(1, len(ordered) + 1), len(ordered)]) / len(
        ordered), where='post', color=ESTIMATE)
    for share in (50, 95):
        value = np.percentile(ordered, share)
        axes.plot([value], [share], 'o', color=REFERENCE, ms=5)
        axes.annotate(f'{share} %: {value:.3g} {unit}', (value, share), xytext=(-8, 2), textcoords='offset points',
                      ha='right')


def reliability_figure(records: Sequence[FrameRecord]) -> Figure:
    """Share of the frames whose truth lies inside the confidence ellipsoid, against the ellipsoid's nominal share."""
    figure = Figure(figsize=(6, 5.5), layout='constrained')
    axes = figure.subplots()
    draw_reliability(axes, *residuals_and_covariances(records))
    axes.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2)
    axes.set_aspect('equal')
    return figure


def worst_figure(records: Sequence[FrameRecord], views: Views) -> Figure:
    """The frames with the largest translation errors: a row of views each, or a sheet if there is one view of each."""
    return picture_sheet([(f'{record.name[-28:]}\n{record.error_m:.2f} m, {record.error_deg:.1f}°', views(record))
                          for record in worst_records(records)])


def picture_sheet(rows: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> Figure:
    """Rows of (what is said of its first picture, pictures [H, W, 3] uint8 by their titles), or a sheet if each has one."""
    titles = list(max((views for _, views in rows), key=len))
    cells = [(said if title == titles[0] else '' if row else title, _thumbnail(views[title]) if title in views else None)
             for row, (said, views) in enumerate(rows) for title in titles]
    columns = len(titles) if len(titles) > 1 else min(4, len(cells))
    count = -(-len(cells) // columns)
    height = WIDE / columns * max(image.shape[0] / image.shape[1] for _, image in cells if image is not None) + 0.45
    figure = Figure(figsize=(WIDE, count * height), layout='constrained')
    for axes in figure.subplots(count, columns, squeeze=False).flat:
        axes.axis('off')
    for axes, (title, image) in zip(figure.axes, cells, strict=False):
        axes.set_title(title, fontsize=10)
        if image is not None:
            axes.imshow(image)
    return figure


def worst_records(records: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Those with the largest translation errors, worst first, no two of them neighbours in a long drive."""
    return spread_out(records, lambda record: -record.error_m, WORST_COUNT)


def spread_out(items: Sequence[Item], key: Callable[[Item], float], count: int) -> list[Item]:
    """The `count` items of smallest key, no two of them neighbours in a long sequence."""
    apart = len(items) // (4 * count)
    chosen = []
    for index in sorted(range(len(items)), key=lambda index: key(items[index])):
        if len(chosen) < count and all(abs(index - other) > apart for other in chosen):
            chosen.append(index)
    return [items[index] for index in chosen]


def errors_of(records: Sequence[FrameRecord]) -> tuple[np.ndarray, np.ndarray]:
    """Metres [N] and degrees [N]."""
    return np.array([record.error_m for record in records]), np.array([record.error_deg for record in records])


def _expected(records: Sequence[FrameRecord]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Root mean square errors in metres [N] and degrees [N] that the covariances state."""
    if any(record.covariance is None for record in records):
        return None, None
    variance = torch.stack([record.covariance.diagonal() for record in records]).unflatten(1, (2, 3)).sum(2)
    return variance[:, 0].sqrt().numpy(), variance[:, 1].sqrt().rad2deg().numpy()


def _unbroken(stamps_s: Sequence[float]) -> list[tuple[int, int]]:
    """(first, one past the last) of the runs of frames without a long pause."""
    steps = np.diff(stamps_s)
    pauses = np.flatnonzero(steps > _TIME_GAP * np.median(steps)) + 1 if len(steps) else []
    edges = [0, *pauses, len(stamps_s)]
    return list(itertools.pairwise(edges))


def _thumbnail(image: np.ndarray) -> np.ndarray:
    scale = _THUMBNAIL / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
