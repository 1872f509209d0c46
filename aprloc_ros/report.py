"""Pictures and a page of localised frames beside their truth: report/index.html, PNGs, poses.csv, results.json."""

import csv
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from aprloc_ros.evaluation import RECALL_BOUNDS, FrameRecord, PoseScores, Verdict, normalised_errors
from aprloc_ros.geometry import rotation_to_quaternion

TRUTH, ESTIMATE, ERROR = '#2e7d32', '#c62828', '#9e9e9e'
WORST_COUNT = 8
_STYLE = {'figure.dpi': 110, 'savefig.dpi': 110, 'font.size': 10, 'axes.grid': True, 'grid.color': '#e0e0e0',
          'axes.spines.top': False, 'axes.spines.right': False, 'axes.axisbelow': True, 'legend.frameon': False}
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #212121 }}
table {{ border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; display: block;
         overflow-x: auto }}
th, td {{ padding: .3em .8em; text-align: right; border-bottom: 1px solid #e0e0e0; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100%; display: block; margin: .5em 0 }} figure {{ margin: 2em 0 }} figcaption {{ color: #616161 }}
.good {{ color: #2e7d32 }} .bad {{ color: #c62828 }}
</style></head><body>
<h1>{title}</h1>
{verdict}
{scores}
{facts}
{figures}
<p>Data: <a href="poses.csv">poses.csv</a>, <a href="results.json">results.json</a></p>
</body></html>
"""


def write_report(directory: Path, title: str, records: Sequence[FrameRecord], scores: dict[str, PoseScores],
                 facts: dict[str, str], verdict: Verdict | None = None,
                 read_image: Callable[[FrameRecord], np.ndarray] | None = None) -> Path:
    """Write the page, its pictures and its data into a directory -> path of index.html.

    scores: rows of the table. facts: further lines, name to text. read_image gives a record's [H, W, 3] uint8 RGB
    image; without it there is no sheet of the worst frames.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    figures = {'trajectory.png': ('Top view: truth, estimates and the error between them', trajectory_figure),
               'errors.png': ('Error of each frame over the drive', error_figure),
               'distribution.png': ('Share of the frames within an error', distribution_figure)}
    if read_image:
        figures['worst.png'] = ('The frames with the largest errors', lambda r: worst_figure(r, read_image))
    if any(record.covariance is not None for record in records):
        figures['calibration.png'] = ('Can the covariances be believed?', calibration_figure)
    with matplotlib.rc_context(_STYLE):
        for name, (_, draw) in figures.items():
            draw(records).savefig(directory / name)
    write_poses(directory / 'poses.csv', records)
    results = {'title': title, 'good': verdict and verdict.good, 'checks': verdict and verdict.checks,
               'scores': {name: score.to_dict() for name, score in scores.items()}, 'facts': facts}
    (directory / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    page = directory / 'index.html'
    page.write_text(_PAGE.format(
        title=html.escape(title), verdict=_verdict_html(verdict), scores=_scores_html(scores), facts=_facts_html(facts),
        figures='\n'.join(f'<figure><figcaption>{caption}</figcaption><img src="{name}" alt="{caption}"></figure>'
                          for name, (caption, _) in figures.items())))
    return page


def _verdict_html(verdict: Verdict | None) -> str:
    if verdict is None:
        return ''
    kind, word = ('good', 'The poses were good.') if verdict.good else ('bad', 'The poses were not good.')
    checks = ''.join(f'<li class="{"good" if held else "bad"}">{"&#10003;" if held else "&#10007;"} '
                     f'{html.escape(check)}</li>' for check, held in verdict.checks.items())
    return f'<h2 class="{kind}">{word}</h2>\n<ul>{checks}</ul>'


def _scores_html(scores: dict[str, PoseScores]) -> str:
    header = ['', 'frames', 'median', 'p95', 'max', *RECALL_BOUNDS]
    rows = [[name, s.count, *(f'{metres:.3f} m, {degrees:.2f}&deg;' for metres, degrees in (
        (s.median_m, s.median_deg), (s.p95_m, s.p95_deg), (s.max_m, s.max_deg))),
        *(f'{s.recall[bound]:.1%}' for bound in RECALL_BOUNDS)] for name, s in scores.items()]
    cells = ''.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows)
    return '<table><tr>' + ''.join(f'<th>{name}</th>' for name in header) + f'</tr>{cells}</table>'


def _facts_html(facts: dict[str, str]) -> str:
    rows = ''.join(f'<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>' for k, v in facts.items())
    return f'<table>{rows}</table>' if rows else ''


def write_poses(path: Path, records: Sequence[FrameRecord]) -> None:
    """A row for each frame: errors, then truth and estimate as position and quaternion (w, x, y, z)."""
    parts = ('x', 'y', 'z', 'qw', 'qx', 'qy', 'qz')
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'stamp_s', 'status', 'latency_ms', 'error_m', 'error_deg',
                         *(f'truth_{part}' for part in parts), *(f'estimate_{part}' for part in parts)])
        for r in records:
            numbers = [value for T in (r.T_truth, r.T_estimate)
                       for value in (*T[:3, 3].tolist(), *rotation_to_quaternion(T[:3, :3]).tolist())]
            writer.writerow([r.name, f'{r.stamp_s:.9f}', r.status, f'{r.latency_ms:.3f}', f'{r.error_m:.6f}',
                             f'{r.error_deg:.6f}', *(f'{number:.9g}' for number in numbers)])


def trajectory_figure(records: Sequence[FrameRecord]) -> Figure:
    """Seen from above: along the map axis nearest to the cameras' mean vertical."""
    T = torch.stack([record.T_truth for record in records])
    truth, estimate = T[:, :3, 3].numpy(), torch.stack([r.T_estimate[:3, 3] for r in records]).numpy()
    down = T[:, :3, 1].mean(0)
    i, j = (axis for axis in range(3) if axis != down.abs().argmax().item())
    if down[3 - i - j] * (1 if (i, j) != (0, 2) else -1) > 0:   # looking along that axis from above: keep right-handed
        i, j = j, i
    figure = Figure(layout='constrained')
    axes = figure.subplots()
    axes.plot(np.stack([truth[:, i], estimate[:, i]]), np.stack([truth[:, j], estimate[:, j]]), color=ERROR, lw=0.7)
    axes.plot(truth[:, i], truth[:, j], 'o', color=TRUTH, ms=4, label='truth')
    axes.plot(estimate[:, i], estimate[:, j], 'o', color=ESTIMATE, ms=3, label='estimate')
    low, high = truth[:, [i, j]].min(0), truth[:, [i, j]].max(0)
    margin = 0.25 * (high - low).max() + 2 * np.median([record.error_m for record in records])
    seen = estimate[:, [i, j]]
    low, high = np.maximum(low - margin, np.minimum(low, seen.min(0)) - 0.1 * margin), \
        np.minimum(high + margin, np.maximum(high, seen.max(0)) + 0.1 * margin)
    axes.set(xlabel=f'map {"xyz"[i]} [m]', ylabel=f'map {"xyz"[j]} [m]', xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_aspect('equal')
    figure.set_size_inches(9, 9 * np.clip((high[1] - low[1]) / (high[0] - low[0]), 0.3, 1) + 0.8)
    outside = int(((seen < low) | (seen > high)).any(1).sum())
    axes.set_title(f'{len(records)} frames' + (f', {outside} estimates outside the picture' if outside else ''))
    axes.legend(loc='best')
    return figure


def error_figure(records: Sequence[FrameRecord]) -> Figure:
    """Metres and degrees against the time of the drive."""
    time_s = np.array([record.stamp_s for record in records]) - records[0].stamp_s
    figure = Figure(figsize=(9, 5.5), layout='constrained')
    for axes, values, label in zip(figure.subplots(2, sharex=True), _errors(records),
                                   ('translation error [m]', 'rotation error [deg]'), strict=True):
        axes.plot(time_s, values, '.', color=ESTIMATE, ms=5)
        axes.axhline(np.median(values), color='#424242', lw=1, ls='--', label=f'median {np.median(values):.3g}')
        axes.set(ylabel=label, ylim=(0, 1.25 * max(values.max(), 1e-6)))
        axes.legend(loc='upper right')
    axes.set_xlabel('time since the first frame [s]')
    return figure


def distribution_figure(records: Sequence[FrameRecord]) -> Figure:
    """Cumulative distribution of both errors, on a logarithmic axis."""
    figure = Figure(figsize=(9, 4), layout='constrained')
    for axes, values, label, unit in zip(figure.subplots(1, 2, sharey=True), _errors(records),
                                         ('translation error [m]', 'rotation error [deg]'), ('m', 'deg'), strict=True):
        ordered = np.maximum(np.sort(values), 1e-6)
        axes.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), where='post', color=ESTIMATE)
        for share in (50, 95):
            value = np.percentile(values, share)
            axes.plot([value], [share], 'o', color='#424242', ms=5)
            axes.annotate(f'{share} %: {value:.3g} {unit}', (value, share), xytext=(8, -12), textcoords='offset points')
        axes.set(xlabel=label, xscale='log', ylim=(0, 102))
    figure.axes[0].set_ylabel('frames within [%]')
    return figure


def _errors(records: Sequence[FrameRecord]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([record.error_m for record in records]), np.array([record.error_deg for record in records])


def worst_records(records: Sequence[FrameRecord]) -> list[FrameRecord]:
    """Those with the largest translation errors, worst first, no two of them neighbours in a long drive."""
    apart = len(records) // (4 * WORST_COUNT)
    chosen = []
    for index in sorted(range(len(records)), key=lambda index: -records[index].error_m):
        if len(chosen) < WORST_COUNT and all(abs(index - other) > apart for other in chosen):
            chosen.append(index)
    return [records[index] for index in chosen]


def worst_figure(records: Sequence[FrameRecord], read_image: Callable[[FrameRecord], np.ndarray]) -> Figure:
    """Contact sheet of the frames with the largest translation errors."""
    worst = worst_records(records)
    columns = min(4, len(worst))
    rows = -(-len(worst) // columns)
    images = [read_image(record) for record in worst]
    height = 9 / columns * max(image.shape[0] / image.shape[1] for image in images) + 0.5
    figure = Figure(figsize=(9, rows * height), layout='constrained')
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis('off')
    for axes, record, image in zip(figure.axes, worst, images, strict=False):
        scale = 360 / max(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        axes.imshow(image)
        axes.set_title(f'{record.name[-28:]}\n{record.error_m:.2f} m, {record.error_deg:.1f}°', fontsize=9)
    return figure


def calibration_figure(records: Sequence[FrameRecord]) -> Figure:
    """Share of the frames whose truth lies inside the confidence ellipsoid, against the ellipsoid's nominal share."""
    squared = normalised_errors(records).numpy()
    nominal = np.sort(1 - np.exp(-squared / 2) * (1 + squared / 2 + squared ** 2 / 8))   # chi-square, 6 degrees
    observed = np.arange(1, len(nominal) + 1) / len(nominal)
    figure = Figure(figsize=(6, 5.5), layout='constrained')
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color='#424242', lw=1, ls='--', label='calibrated')
    axes.step(100 * np.array([0, *nominal, 1]), 100 * np.array([0, *observed, 1]), where='post', color=ESTIMATE,
              label=f'observed, {len(nominal)} frames')
    axes.text(97, 4, 'below the line: overconfident\nabove: cautious', ha='right', color='#616161')
    axes.set(xlabel='nominal confidence, chi-square with 6 degrees of freedom [%]', ylabel='frames inside [%]',
             xlim=(0, 100), ylim=(0, 100))
    axes.set_aspect('equal')
    axes.legend(loc='upper left')
    return figure
