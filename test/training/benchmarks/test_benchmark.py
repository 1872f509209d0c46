"""`aprloc benchmark`: its tables, its plot and its refusals, on maps and captures of a handful of pixels."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_capture import TEST, TRAIN, write_settings, write_wall
from tiny_map import save_tiny_map, tiny_manifest, tiny_models

from aprloc_ros.camera import warp_image
from aprloc_ros.cli import main
from aprloc_ros.fields.views import render_view
from aprloc_ros.histogram import luminance_histogram
from aprloc_ros.map_bundle import load_map, save_map
from aprloc_ros.training.benchmarks import ablation
from aprloc_ros.training.benchmarks.ablation import REGRESSOR_VARIANTS
from aprloc_ros.training.checks.contradictions import CONTRADICTIONS, HARMLESS
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.presets import load_preset

pytestmark = pytest.mark.usefixtures('one_thread')


def rows(text: str) -> list[list[str]]:
    """Cells of the table rows that are not rules."""
    lines = [line for line in text.splitlines() if line.startswith('|') and not line.startswith('|---')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def run(capsys, *arguments) -> str:
    assert main(['benchmark', *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope='module')
def maps(tmp_path_factory) -> Path:
    """Two maps: one with all figures and a history, one that says little of itself."""
    directory = tmp_path_factory.mktemp('maps')
    accuracy = {'frames': 5.0, 'psnr_db': 21.34, 'median_m': 0.1234, 'median_deg': 2.345, 'p95_m': 0.5, 'p95_deg': 9.0}
    history = {'field': [[0.0, 12.0], [60.0, 18.0], [120.0, 21.0]],
               'regressor': [[0.0, 3.0, 30.0], [60.0, 0.5, 8.0], [120.0, 0.2, 3.0]]}
    save_map(directory / 'good', replace(tiny_manifest('good'), accuracy=accuracy, history=history), *tiny_models())
    save_tiny_map(directory / 'bare')
    return directory


def test_maps_are_a_row_each(maps, capsys):
    out = run(capsys, 'maps', 'good', 'bare', '--map-dir', maps, '--device', 'cpu')
    header, good, bare = rows(out)
    assert len(header) == len(good) == len(bare)
    cells = dict(zip(header, good))
    assert cells['map'] == 'good' and cells['held-out frames'] == '5' and cells['PSNR dB'] == '21.3'
    assert cells['median m / deg'] == '0.1234 / 2.35' and cells['p95 m / deg'] == '0.5000 / 9.00'
    assert cells['build s (preset)'] == '2 (small)'
    size = sum(path.stat().st_size for path in (maps / 'good').iterdir())
    assert float(cells['map MB']) == pytest.approx(size / 1e6, abs=0.006)
    assert int(cells['rays/s']) > 100
    p50, p95 = map(float, cells['regress p50 / p95 ms'].split('/'))
    assert 0 < p50 <= p95
    assert dict(zip(header, bare))['PSNR dB'] == '-' and dict(zip(header, bare))['p95 m / deg'] == '- / -'
    assert 'good was built on 2 cores' in out and 'measured now on' in out


def test_the_plot_shows_the_curves(maps, tmp_path, capsys):
    path = tmp_path / 'pictures' / 'curves.png'
    out = run(capsys, 'maps', 'good', '--map-dir', maps, '--device', 'cpu', '--plot', path)
    assert str(path) in out
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 2 * picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    blue = (picture.astype(int)[..., 0] - picture[..., 2] > 80).any(0)     # the first line's colour
    thirds = np.array_split(blue, 3)
    assert all(third.sum() > 100 for third in thirds)


@pytest.mark.parametrize('arguments, complaint', [
    (['maps', 'nowhere'], r'aprloc: error: no map nowhere'),
    (['exposure', 'nowhere', '--data', '.'], r'aprloc: error: no map nowhere'),
    (['ablation', '--data', '/no/capture', '--work', 'WORK'], r'aprloc: error: /no/capture: no such file'),
    (['ablation', '--data', '.', '--work', 'WORK', '--preset', 'huge'], r"aprloc: error: preset 'huge'")])
def test_mistakes_get_one_line(tmp_path, capsys, arguments, complaint):
    assert main(['benchmark', *(str(tmp_path) if a == 'WORK' else a for a in arguments)]) == 1
    assert re.match(complaint, capsys.readouterr().err)


@pytest.mark.parametrize('arguments', [['everything'], ['maps', '--plot'], ['ablation', '--work', '.'],
                                       ['exposure', 'x']])
def test_wrong_options_are_a_usage_error(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(['benchmark', *arguments])
    assert caught.value.code == 2
    assert 'usage: aprloc benchmark' in capsys.readouterr().err


@pytest.fixture(scope='module')
def tiny_yaml(tmp_path_factory) -> Path:
    """A handful of steps."""
    return write_settings(tmp_path_factory.mktemp('settings') / 'tiny.yaml', field={'steps': 4}, regressor={'steps': 3})


@pytest.mark.parametrize('with_depth', [True, False])
def test_the_ablation_prints_every_variant(tmp_path, capsys, tiny_yaml, with_depth, monkeypatch):
    wall = write_wall(tmp_path / 'wall', with_depth)
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'mine.txt').write_text('keep')
    if not with_depth:     # the wall has too few pixels to be triangulated
        exact = ablation.Build(ablation.Request('w', ablation.read_capture(write_wall(tmp_path / 'deep')), 'small',
                                                  load_preset('small', tiny_yaml), 0, 'none'), tmp_path / 'd', 'cpu')
        found = [exact.depths.frame, exact.depths.xyz, exact.depths.depth_m]
        monkeypatch.setattr(ablation.Build, '_find_depths', lambda build: found)
    command = ['ablation', '--data', wall, '--config', tiny_yaml, '--seeds', 0, 5, '--work', work, '--device', 'cpu']
    out = run(capsys, *command)
    fields, regressors = rows(out)[:3], rows(out)[3:]
    assert [row[0] for row in fields] == ['field', 'with depth supervision', 'without']
    for row in fields[1:]:
        assert float(row[1]) > 3
        assert re.fullmatch(r'\d+\.\d%', row[2]) if with_depth else row[2] == '-'
    assert regressors[0][1:] == ['seed 0: median m / deg', 'seed 5: median m / deg', 'mean m / deg']
    assert [row[0] for row in regressors[1:]] == list(REGRESSOR_VARIANTS)
    for row in regressors[1:]:
        values = [[float(x) for x in cell.split('/')] for cell in row[1:]]
        assert values[2] == pytest.approx([(a + b) / 2 for a, b in zip(*values[:2])], abs=0.011)
    assert len({row[1] for row in regressors[1:]}) > 1
    assert f'{TEST} held-out frames; seeds [0, 5]' in out and 'nan' not in out
    assert (work / 'mine.txt').read_text() == 'keep'
    assert rows(run(capsys, *command)) == rows(out)      # a second run finds the checkpoints


def test_exposure_compares_histograms(capsys, tiny_wall, built_wall):
    """On frames that trained nothing; the figures are done again with render_view."""
    wall, bundle = tiny_wall[0], load_map(built_wall, 'cpu')
    capsys.readouterr()
    table = rows(run(capsys, 'exposure', 'wall', '--data', wall, '--map-dir', built_wall.parent, '--device', 'cpu'))
    assert re.fullmatch(r'train, held-out blocks \((\d) of \1\)', table[1][0])
    assert table[2][0] == f'held-out drive ({TEST} of {TEST})'
    capture, camera = read_capture(wall), bundle.manifest.camera
    images = [torch.from_numpy(warp_image(f.read_image(), f.camera, camera)).permute(2, 0, 1) / 255
              for f in (*capture.train, *capture.test)]
    histograms = torch.stack([luminance_histogram(image) for image in images])
    shared = histograms[:TRAIN].mean(0).expand(TEST, -1)
    for column, given in ((1, histograms[TRAIN:]), (2, shared)):
        psnr = []
        for frame, histogram, image in zip(capture.test, given, images[TRAIN:]):
            rgb, _ = render_view(bundle.field, bundle.manifest.scene, camera, frame.T_map_cam, histogram)
            psnr.append(-10 * torch.log10((rgb - image).square().mean()).item())
        assert float(table[2][column]) == pytest.approx(np.mean(psnr), abs=0.02)
    for row in table[1:]:
        assert float(row[3]) == pytest.approx(float(row[1]) - float(row[2]), abs=0.011)


def test_contradictions_are_a_row_each(tmp_path, capsys, monkeypatch):
    few = {name: CONTRADICTIONS[name] for name in ('OpenGL axes', 'world-to-camera', 'frames shifted by 1')}
    monkeypatch.setattr('aprloc_ros.training.benchmarks.contradictions.CONTRADICTIONS', few)
    table = {row[0]: row[2:] for row in rows(run(capsys, 'contradictions', '--data', write_wall(tmp_path / 'wall')))[1:]}
    assert list(table)[:-4] == [*HARMLESS, *few]
    assert all(table[name][0] == 'no' and table[name][1].startswith('poses: ') for name in HARMLESS)
    for name, (_, text) in few.items():
        assert table[name][0] == 'yes' and text in table[name][1]


@pytest.mark.parametrize('words', [
    ['refine', 'demo', '--data', '.', '--every', '0'], ['priors', 'demo', '--data', '.', '--work', '.', '--every-slow', '-1'],
    ['pose', '--data', '.', '--work', '.', '--frames', '-3'], ['adapt', 'demo', '--data', '.', '--work', '.', '--gamma', 'nan']])
def test_numbers_out_of_range_are_refused_in_a_line(words, capsys):
    with pytest.raises(SystemExit):
        main(['benchmark', *words])
    assert words[-1] in capsys.readouterr().err.splitlines()[-1]


def test_images_that_are_not_there_are_named(tmp_path, capsys):
    assert main(['benchmark', 'pose', '--data', str(tmp_path / 'nowhere'), '--work', str(tmp_path / 'work')]) == 1
    assert 'nowhere' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('arguments', [['benchmark'], ['benchmark', 'list']])
def test_benchmarks_are_listed(arguments, capsys):
    assert main(arguments) == 0
    listed = capsys.readouterr().out
    assert all(f'    {name} ' in listed for name in ('maps', 'refine', 'pose', 'days'))
