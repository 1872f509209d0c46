"""The report's files: pictures that show something, links that lead somewhere, the records' own numbers."""

import csv
import json
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from aprloc_ros.geometry import BODY_FROM_CV, invert, pose, se3_exp, so3_exp
from aprloc_ros.scoring.evaluation import make_record, score_with_baselines
from aprloc_ros.scoring.figures import trajectory_figure
from aprloc_ros.scoring.report import write_report
from aprloc_ros.scoring.verdict import Verdict


def make_records(count=40, covariance_std=0.1):
    """A drive along a circle, with Gaussian errors and a covariance that says so."""
    generator = torch.Generator().manual_seed(0)
    covariance = covariance_std ** 2 * torch.eye(6, dtype=torch.float64)
    records = []
    for index in range(count):
        angle = torch.tensor(5 * index / count, dtype=torch.float64)
        R = so3_exp(torch.stack([torch.zeros_like(angle), torch.zeros_like(angle), angle]))
        position = torch.stack([12 * angle.cos(), 8 * angle.sin(), torch.ones_like(angle)])
        T = pose(R, position) @ BODY_FROM_CV
        xi = covariance_std * torch.randn(6, generator=generator, dtype=torch.float64)
        records.append(make_record(f'drive/{index:03d}.png', 10 + index / 10, T, T @ invert(se3_exp(xi)), 20.0, 'prior',
                                   covariance))
    return records


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    records = make_records()
    scores = score_with_baselines(records, [record.T_truth for record in records[::4]], 'the map')
    rng = np.random.default_rng(0)
    page = write_report(tmp_path_factory.mktemp('out') / 'report', 'Map <court>', records, scores,
                        {'frames sent': '41 & more'}, Verdict({'median 1 m < 2 m': True, 'answered': False}, 'the machine was slow'),
                        lambda record: {'query': rng.integers(0, 256, (48, 64, 3), np.uint8)})
    return page.parent, records, scores


def test_pictures_show_something(report):
    directory = report[0]
    pictures = {path.name for path in directory.glob('*.png')}
    assert pictures == {'trajectory.png', 'errors.png', 'distribution.png', 'worst.png', 'calibration.png'}
    for name in pictures:
        picture = cv2.imread(str(directory / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 5
        assert len(np.unique(picture @ np.array([1, 256, 65536]))) > 20


def test_links_resolve_and_nothing_is_fetched(report):
    directory = report[0]
    page = (directory / 'index.html').read_text()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) == 7
    for link in links:
        assert (directory / link).is_file()
    assert 'http' not in page


def test_text_is_escaped_and_the_verdict_shown(report):
    page = (report[0] / 'index.html').read_text()
    assert 'Map &lt;court&gt;' in page and '<court>' not in page
    assert '41 &amp; more' in page and 'median 1 m &lt; 2 m' in page
    assert 'The poses were NOT good; the machine was slow.' in page


def test_the_table_has_a_column_for_each_and_is_never_cut(report):
    """As narrow as a phone: it neither scrolls by itself nor breaks within a number."""
    page, scores = (report[0] / 'index.html').read_text(), report[2]
    table = ElementTree.fromstring(re.search('<table class="scores">.*</table>', page)[0].replace('&deg;', '°'))
    header, *rows = table
    assert [cell.text for cell in header] == [None, *scores] and all(len(row) == len(scores) + 1 for row in rows)
    cells = {''.join(row[0].itertext()): [''.join(cell.itertext()) for cell in row[1:]] for row in rows}
    assert cells['median'] == [f'{s.median_m:.3f} m, {s.median_deg:.2f}°' for s in scores.values()]
    assert cells['within 5 m, 10°'] == [f'{s.recall["5m10deg"]:.1%}' for s in scores.values()]
    style = page[:page.index('</style>')]
    assert 'overflow-x' not in style and ' span { white-space: nowrap }' in style


def test_data_are_those_of_the_records(report):
    directory, records, scores = report
    results = json.loads((directory / 'results.json').read_text())
    assert results['good'] is False and results['checks'] == {'median 1 m < 2 m': True, 'answered': False}
    assert results['scores']['the map']['median_m'] == scores['the map'].median_m
    with open(directory / 'poses.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == [record.name for record in records]
    distances = [np.linalg.norm([float(row[f'truth_{axis}']) - float(row[f'estimate_{axis}']) for axis in 'xyz'])
                 for row in rows]
    np.testing.assert_allclose(distances, [record.error_m for record in records], atol=1e-6)


def test_a_report_without_images_covariance_and_verdict(tmp_path):
    records = [make_record(r.name, r.stamp_s, r.T_truth, r.T_estimate, r.latency_ms, r.status) for r in make_records(1)]
    page = write_report(tmp_path, 'One', records, score_with_baselines(records, [records[0].T_truth], 'map'), {})
    assert {path.name for path in tmp_path.glob('*.png')} == {'trajectory.png', 'errors.png', 'distribution.png'}
    assert 'worst.png' not in page.read_text()


@pytest.mark.parametrize('up, horizontal, vertical', [
    ('z', 'x', 'y'), ('y', 'z', 'x'), ('x', 'y', 'z')])
def test_top_view_looks_down_in_a_right_handed_way(up, horizontal, vertical):
    order = ['xyz'.index(axis) for axis in (horizontal, vertical, up)]
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.eye(3, dtype=torch.float64)[:, order]   # takes the drive's z-up axes to those of the map
    records = [make_record(r.name, r.stamp_s, turn @ r.T_truth, turn @ r.T_estimate, 0.0, '') for r in make_records(9)]
    axes = trajectory_figure(records).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f'map {horizontal} [m]', f'map {vertical} [m]')
    assert axes.get_aspect() == 1
