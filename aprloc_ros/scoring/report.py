"""A page of localised frames beside their truth: index.html, its pictures, poses.csv, results.json."""

import csv
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from aprloc_ros.recordings.trajectory import POSE_CELLS, pose_cells
from aprloc_ros.scoring.evaluation import RECALL_BOUNDS, FrameRecord, PoseScores
from aprloc_ros.scoring.figures import (
    Views,
    distribution_figure,
    error_figure,
    reliability_figure,
    styled,
    trajectory_figure,
    worst_figure,
)
from aprloc_ros.scoring.verdict import Verdict

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #212121 }}
h1 {{ font-size: 1.6em; margin-bottom: .2em }} h2 {{ font-size: 1.15em }}
h2, li, .facts td:last-child {{ overflow-wrap: anywhere }} span {{ white-space: nowrap }}
table {{ border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3em .6em; text-align: right; vertical-align: top; border-bottom: 1px solid #e0e0e0 }}
th {{ color: #616161; font-weight: 600 }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100%; display: block; margin: .5em 0 }}
figure {{ margin: 2em 0 }} figcaption {{ font-weight: 600 }}
.tiles {{ display: flex; flex-wrap: wrap; gap: .8em; margin: 1.2em 0 }}
.tile {{ background: #f5f5f5; border-radius: .5em; padding: .6em 1em; min-width: 7em }}
.tile b {{ display: block; font-size: 1.25em; font-variant-numeric: tabular-nums }}
.tile > span {{ color: #616161; font-size: .85em }}
.facts td:last-child {{ text-align: left }}
.checks {{ padding: 0; list-style: none }}
.good {{ color: #2e7d32 }} .bad {{ color: #c62828 }}
</style></head><body>
<h1>{title}</h1>
{verdict}
{tiles}
{scores}
{facts}
{figures}
{closing}
<p>Data: {files}</p>
</body></html>
"""


def write_report(directory: Path, title: str, records: Sequence[FrameRecord], scores: dict[str, PoseScores],
                 facts: dict[str, str], verdict: Verdict | None = None, views: Views | None = None) -> Path:
    """Write the page, its pictures and its data into a directory -> path of index.html.

    scores: rows of the table, the first is what the page is about. facts: further lines, name to text. views gives the
    pictures of a record; without it there is no sheet of the worst frames.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_poses(directory / 'poses.csv', records)
    results = {'title': title, 'good': verdict and verdict.good, 'checks': verdict and verdict.checks,
               'scores': {name: score.to_dict() for name, score in scores.items()}, 'facts': facts}
    (directory / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    return write_page(directory, title, scores, facts, record_figures(records, views), ('poses.csv', 'results.json'),
                      verdict)


def record_figures(records: Sequence[FrameRecord], views: Views | None = None, refused_s: Sequence[float] = (),
                   ) -> dict[str, tuple[str, Figure]]:
    """File name -> caption and figure, of at least one record. refused_s: stamps of the frames that got no pose."""
    with styled():
        figures = {
            'trajectory.png': ('Top view: truth, estimates and the error between them', trajectory_figure(records)),
            'errors.png': ('Error of each frame over the drive', error_figure(records, refused_s)),
            'distribution.png': ('Histogram of the errors, and the share of the frames within an error', distribution_figure(records))}
        if any(record.covariance is not None for record in records):
            figures['calibration.png'] = ('Can the covariances be believed?', reliability_figure(records))
        if views:
            figures['worst.png'] = ('The frames with the largest errors', worst_figure(records, views))
    return figures


def write_page(directory: Path, title: str, scores: Mapping[str, PoseScores], facts: Mapping[str, str],
               figures: Mapping[str, tuple[str, Figure]], files: Sequence[str], verdict: Verdict | None = None,
               closing: str = '') -> Path:
    """index.html and its pictures -> its path.

    figures: as of record_figures; files: in the directory, to link to; closing: the page's last sentence.
    """
    with styled():
        for name, (_, figure) in figures.items():
            figure.savefig(directory / name)
    page = directory / 'index.html'
    page.write_text(_PAGE.format(
        title=html.escape(title), verdict=_verdict_html(verdict), tiles=_tiles_html(scores), scores=_scores_html(scores),
        facts=_facts_html(facts), closing=f'<p><b>{html.escape(closing)}</b></p>' if closing else '', files=', '.join(f'<a href="{name}">{name}</a>' for name in files),
        figures='\n'.join(f'<figure><figcaption>{caption}</figcaption><img src="{name}" alt="{caption}"></figure>'
                          for name, (caption, _) in figures.items())), encoding='utf-8')
    return page


def _verdict_html(verdict: Verdict | None) -> str:
    if verdict is None:
        return ''
    kind, said = 'good' if verdict.good else 'bad', verdict.sentence()
    checks = ''.join(f'<li class="{"good" if held else "bad"}">{"&#10003;" if held else "&#10007;"} '
                     f'{html.escape(check)}</li>' for check, held in verdict.checks.items())
    return f'<h2 class="{kind}">{html.escape(said[0].upper() + said[1:])}.</h2>\n<ul class="checks">{checks}</ul>'


def _tiles_html(scores: Mapping[str, PoseScores]) -> str:
    """The first row of the table at a glance."""
    if not scores:
        return ''
    s = next(iter(scores.values()))
    tiles = {'median error': _pair(f'{s.median_m:.3g} m', f'{s.median_deg:.2g}&deg;'),
             '95 % of the errors below': _pair(f'{s.p95_m:.3g} m', f'{s.p95_deg:.2g}&deg;'),
             **{f'within {_bound(name)}': f'{s.recall[name]:.0%}' for name in RECALL_BOUNDS}}
    return '<div class="tiles">' + ''.join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
                                           for name, value in tiles.items()) + '</div>'


def _scores_html(scores: Mapping[str, PoseScores]) -> str:
    if not scores:
        return ''
    statistics = {name: lambda s, key=name: _pair(f'{getattr(s, f"{key}_m"):.3f} m', f'{getattr(s, f"{key}_deg"):.2f}&deg;')
                  for name in ('median', 'mean', 'p95', 'max')}
    within = {f'within {_bound(name)}': lambda s, name=name: f'{s.recall[name]:.1%}' for name in RECALL_BOUNDS}
    # A column each, as there are few of them: so the table is as narrow as a phone.
    header = ''.join(f'<th>{html.escape(name)}</th>' for name in scores)
    rows = ''.join(f'<tr><td>{name}</td>' + ''.join(f'<td>{cell(s)}</td>' for s in scores.values()) + '</tr>'
                   for name, cell in {'frames': lambda s: s.count, **statistics, **within}.items())
    return f'<table class="scores"><tr><th></th>{header}</tr>{rows}</table>'


def _bound(name: str) -> str:
    """'5cm5deg' as people write it."""
    metres, degrees = RECALL_BOUNDS[name]
    return _pair(f'{100 * metres:g} cm' if metres < 1 else f'{metres:g} m', f'{degrees:g}&deg;')


def _pair(*parts: str) -> str:
    """Numbers with their units, which a narrow page breaks between them alone."""
    return ', '.join(f'<span>{part}</span>' for part in parts)


def _facts_html(facts: Mapping[str, str]) -> str:
    rows = ''.join(f'<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>' for k, v in facts.items())
    return f'<table class="facts">{rows}</table>' if rows else ''


def write_poses(path: Path, records: Sequence[FrameRecord]) -> None:
    """A row for each frame: errors, then truth and estimate as position and quaternion (w, x, y, z)."""
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'stamp_s', 'status', 'latency_ms', 'error_m', 'error_deg',
                         *(f'truth_{cell}' for cell in POSE_CELLS), *(f'estimate_{cell}' for cell in POSE_CELLS)])
        for r in records:
            writer.writerow([r.name, f'{r.stamp_s:.9f}', r.status, f'{r.latency_ms:.3f}', f'{r.error_m:.6f}',
                             f'{r.error_deg:.6f}', *pose_cells(r.T_truth), *pose_cells(r.T_estimate)])
