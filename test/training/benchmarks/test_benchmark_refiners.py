"""`aprloc benchmark nre` and `refine` on a map of a handful of pixels: every table and plot is there."""

import itertools
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from tiny_capture import TEST, TRAIN, write_wall

from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.geometry import pose, pose_errors, se3_exp, so3_exp
from aprloc_ros.refinement.refined import Budget
from aprloc_ros.similarity import Similarity
from aprloc_ros.training import adapt_map
from aprloc_ros.training.benchmarks import adapt as benchmark_adapt
from aprloc_ros.training.benchmarks import budget as benchmark_budget
from aprloc_ros.training.benchmarks import camera as benchmark_camera
from aprloc_ros.training.benchmarks import days as benchmark_days
from aprloc_ros.training.benchmarks import pose_maps as benchmark_pose_maps
from aprloc_ros.training.benchmarks import refine as benchmark_refine
from aprloc_ros.training.benchmarks import warps
from aprloc_ros.training.benchmarks.crossfit import halves, seen_by
from aprloc_ros.training.benchmarks.nefes import VARIANTS
from aprloc_ros.training.benchmarks.refine import displaced
from aprloc_ros.training.benchmarks.rivals.sift import SIFT
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import SparsePoints
from aprloc_ros.training.stages.adaptation import METHODS, AdaptationTraining

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def wall(tiny_wall, built_wall, tmp_path_factory):
    """Folder of the capture, folder of the maps and of the settings that built them."""
    maps = tmp_path_factory.mktemp('maps')
    shutil.copytree(built_wall, maps / 'wall')
    shutil.copy(tiny_wall[1], maps)
    return tiny_wall[0], maps


def first_cells(capsys, *arguments):
    assert main(['benchmark', *map(str, arguments), '--device', 'cpu']) == 0
    output = capsys.readouterr().out
    return output, [line.split('|')[1].strip() for line in output.splitlines() if line.startswith('| ')]


def test_nre_prints_all_tables(wall, tmp_path, capsys):
    output, cells = first_cells(capsys, 'nre', 'wall', '--data', wall[0], '--map-dir', wall[1], '--work', tmp_path)
    assert f'{TEST} held-out frames' in output
    for row in ('NRE with a feature-metric end', 'NRE, coarse to fine', 'RE: MAGSAC++', 'RE: Eq. 11', 'FPR: Eq. 12, from MAGSAC++', 'extraction', 'total',
                'twice the training blur', 'half the exposure', 'double the exposure', 'half covered'):
        assert row in cells


def test_refine_prints_a_row_for_each_refiner_and_draws(wall, tmp_path, capsys):
    plot = tmp_path / 'convergence.png'
    output, cells = first_cells(capsys, 'refine', 'wall', '--data', wall[0], '--map-dir', wall[1], '--every-slow', 2,
                                '--refiners', 'nre', 'align', '--plot', plot)
    assert cells[1:] == ['none (regressor)', 'nre', 'align'] and output.count('success by turn') == 2
    assert min(cv2.imread(str(plot)).shape[:2]) > 300
    header, *rows = [line.split('|') for line in output.splitlines() if line.startswith('| ')]
    gated = {row[1].strip(): row[header.index(' worse behind the gate ')].strip() for row in rows}
    assert gated['nre'].endswith('%') and gated['align'].endswith('%') and gated['none (regressor)'] == '-'


def test_budget_prints_a_row_for_each_budget_idle_and_busy_and_draws(wall, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_budget, 'BUDGETS_MS', (0.0, 1e6))
    monkeypatch.setattr(benchmark_budget, 'BUSY_PROCESSES', 1)
    plot = tmp_path / 'budget.png'
    output, cells = first_cells(capsys, 'budget', 'wall', '--data', wall[0], '--map-dir', wall[1], '--plot', plot)
    assert cells == ['refine_ms', '0', '1e+06'] * 2 and 'beside 1 busy processes' in output
    assert min(cv2.imread(str(plot)).shape[:2]) > 300


def test_camera_prints_a_row_for_each_mode(wall, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_camera, '_RIGHT_FRAMES', 40)
    _, cells = first_cells(capsys, 'camera', 'wall', '--data', wall[0], '--map-dir', wall[1])
    assert cells[:3] == ['declared', 'as it is', 'focal length x 0.99'] and len(cells) == 9


def test_warps_prints_a_row_for_each_way_to_bend_an_image(wall, capsys, monkeypatch):
    kept = ('as it is', 'sheared by 0.05', 'rolling shutter, 0.03 rad up')
    monkeypatch.setattr(warps, '_WARPS', {name: warps._WARPS[name] for name in kept})
    _, cells = first_cells(capsys, 'warps', 'wall', '--data', wall[0], '--map-dir', wall[1])
    assert cells == ['images', *kept]


def test_a_rolling_shutter_and_a_lens_are_what_they_are_called():
    """A camera that turns sideways while its rows are read shears, up stretches; a lens puts back what bends."""
    camera = Camera(64, 48, 80.0, 80.0, 31.5, 23.5)
    rays = camera.directions().numpy()[..., :2].astype(float)
    for turn, matrix in (((0.0, 0.06, 0.0), ((1, 0.1), (0, 1))), ((0.06, 0.0, 0.0), ((1, 0), (0, 0.9)))):
        near_axis = np.abs(rays).max(2) < 0.1
        turned = warps._turned(turn, rays, camera) - warps._resampled(matrix, rays, camera)
        assert np.abs(turned[near_axis]).max() < 2e-3   # 0.06 rad in 48 rows are 0.1 in as many as the focal length has
    bent = warps._bent(-0.15, rays, camera)
    np.testing.assert_allclose(bent * (1 - 0.15 * (bent ** 2).sum(2, keepdims=True)), rays, atol=1e-9)


def test_days_print_a_row_for_each_light_and_a_column_for_each_method(wall, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_days, 'pretrained_xfeat', lambda: SIFT)
    output, _ = first_cells(capsys, 'days', 'wall', '--data', wall[0], '--map-dir', wall[1], '--days', wall[0],
                            '--every', 2, '--work', tmp_path)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in output.splitlines() if line.startswith('| ')]
    header, own, other, relit_header, *relit = rows
    assert header[3:] == relit_header[3:] == ['nre', 'align', 'regressor alone', 'SIFT', 'XFeat (pretrained) + PnP']
    assert [own[1], other[1]] == ['its own', wall[0].name] and len(relit) == 10
    for method, cell in itertools.chain.from_iterable(zip(header[3:], row[3:], strict=True) for row in (own, other, *relit)):
        shares, wrong, median, *held = cell.split('; ')
        assert len(held) == (method in header[3:6] and not cell.endswith('-'))
        answered, right_near, right = map(int, shares[:-2].split(' / '))
        assert right_near <= right <= answered <= 100
        assert (wrong == median == '-') == (answered == 0)
    assert all(row[5].startswith('100 /') and row[6] == row[7] for row in relit)


def test_seasons_tell_how_many_images_off_an_answer_is(wall, tmp_path, capsys):
    """Queries that show what the capture shows three images on, under the name of here; the last three there are, and one from where
    the capture does not reach."""
    files, queries = sorted((wall[0] / 'train').glob('??.png')), tmp_path / 'snow'
    queries.mkdir()
    for here, there in zip(files, files[3:] + 3 * files[-1:], strict=True):
        shutil.copy(there, queries / here.name)
    shutil.copy(files[0], queries / '99.png')
    output, names = first_cells(capsys, 'seasons', 'wall', '--data', wall[0], '--map-dir', wall[1], '--queries', queries, '--work', tmp_path / 'w')
    assert f'{len(files)} images of the way: {len(files) + 1} queries from snow' in output and names == ['', 'nre', 'align', 'regressor alone', 'SIFT']
    for answered, near, far, middle in ([cell.strip() for cell in line.split('|')[2:-1]] for line in output.splitlines() if line.startswith('| ')
                                        and 'answered' not in line):
        count = int(answered.split()[0])
        assert answered == f'{count} of {len(files) + 1}' and int(near) + int(far) == count
        assert (middle == '-') == (count == 0)
    nre = next(line for line in output.splitlines() if line.startswith('| nre'))
    assert nre.split('|')[-2].strip() in ('3', '-')


def test_maps_in_frames_of_their_own_are_compared_in_that_of_the_capture(wall, capsys, monkeypatch):
    """One is exact in a frame and a unit of its own; one is 2 cm off in what it was not shown."""
    capture = read_capture(wall[0])
    own = Similarity(3.0, so3_exp(torch.tensor([0.4, 1.0, -0.2], dtype=torch.float64)), torch.ones(3, dtype=torch.float64), 0.0, 'drawn')
    off = pose(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.02, 0.0], dtype=torch.float64))
    answers = [{frame.read_image().tobytes(): own.apply(frame.T_map_cam) for frame in (*capture.train, *capture.test)},
               {frame.read_image().tobytes(): frame.T_map_cam @ (off if frame in capture.test else torch.eye(4).double())
                for frame in (*capture.train, *capture.test)}]

    class Knows:
        def __init__(self, bundle, device):
            self.answers = answers.pop(0)

        def localize(self, image, camera):
            return SimpleNamespace(status='refined', T_map_cam=self.answers[image.tobytes()])
    monkeypatch.setattr(benchmark_pose_maps, 'Localizer', Knows)
    output, names = first_cells(capsys, 'pose_maps', 'wall', 'wall', '--data', wall[0], '--map-dir', wall[1])
    rows = [[cell.strip() for cell in line.split('|')[2:-1]] for line in output.splitlines()[-2:]]
    exact, none = '0.0000 / 0.00 deg', f'{TEST} of {TEST}'
    assert names[0] == 'map' and rows == [[none, exact, exact, exact], [none, *['0.0200 / 0.00 deg'] * 2, exact]]


def test_nefes_prints_a_row_for_each_variant(wall, tmp_path, capsys):
    output, cells = first_cells(capsys, 'nefes', 'wall', '--data', wall[0], '--map-dir', wall[1], '--every-slow', TEST,
                                '--config', wall[1] / 'tiny.yaml', '--work', tmp_path)
    assert cells[1:] == list(VARIANTS)
    assert all(cell.count('/') == 3 and 'nan' not in cell for cell in output.splitlines()[-len(VARIANTS):])


def test_descriptors_prints_a_row_for_each_geometry(wall, tmp_path, capsys):
    _, cells = first_cells(capsys, 'descriptors', 'wall', '--data', wall[0], '--map-dir', wall[1],
                           '--config', wall[1] / 'tiny.yaml', '--work', tmp_path)
    assert cells[1:] == ['tracks', "the field's surfaces"]


def test_crossfit_asks_each_frame_of_descriptors_that_did_not_see_it(wall, tmp_path, capsys):
    _, cells = first_cells(capsys, 'crossfit', 'wall', '--data', wall[0], '--map-dir', wall[1],
                           '--config', wall[1] / 'tiny.yaml', '--work', tmp_path)
    assert cells[0] == 'views left out' and cells[-1] == 'all'
    assert sorted(folder.name for folder in (tmp_path / 'build').glob('half?')) == ['half0', 'half1']


def test_halves_of_a_drive_are_stretches_and_what_they_saw_is_numbered_anew():
    half, middle = halves(80)
    assert half.tolist() == [i // 10 % 2 for i in range(80)] and all(2 < i % 10 < 8 for i in middle.tolist()) and len(middle) >= 32
    points = SparsePoints(torch.zeros(3, 3), torch.tensor([[0, 2], [1, 0], [2, 1], [3, 2], [3, 0]]))
    assert seen_by(points, torch.tensor([False, True, False, True])).observations.tolist() == [[0, 0], [1, 2], [1, 0]]


@pytest.mark.parametrize(('move_m', 'turn_deg'), [(0.0, 0.0), (0.7, 0.0), (0.0, 35.0), (2.0, 170.0)])
def test_starts_are_displaced_by_what_is_asked(move_m, turn_deg):
    T = se3_exp(torch.ones(6, dtype=torch.float64))
    moved = displaced(T, move_m, turn_deg, torch.Generator().manual_seed(3))
    error_m, error_deg = pose_errors(moved, T)
    assert error_m.item() == pytest.approx(move_m, abs=1e-9) and error_deg.item() == pytest.approx(turn_deg, abs=1e-5)


POSENET = {'kind': 'posenet', 'arguments': {'backbone': 'resnet34', 'width': 0.15}, 'steps': 4, 'short_side': 32, 'batch': 2}


def test_priors_prints_a_row_for_each_first_pose(wall, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_refine, '_PLENTY', Budget(2, 1e7))
    config = tmp_path / 'small.yaml'
    config.write_text(yaml.safe_dump({'regressor': POSENET}))
    output, cells = first_cells(capsys, 'priors', 'wall', '--data', wall[0], '--map-dir', wall[1], '--every-slow', 4,
                                '--work', tmp_path / 'work', '--regressors', config)
    assert cells == ['first pose', 'retrieval', 'dfnet', 'small'] and f'{TEST} held-out frames' in output
    rows = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in (line.split('|') for line in output.splitlines() if line[:2] == '| ')}
    assert rows['first pose'] == ['alone', 'nefes_apr', 'nefes_pose', 'align', 'nre']
    assert rows['retrieval'][1] == '-' and all('/' in cell for cell in (*rows['retrieval'][2:], *rows['dfnet'], *rows['small']))
    assert rows['dfnet'][0] != rows['small'][0]


def test_another_regressor_needs_the_capture_that_built_the_map(wall, tmp_path, capsys):
    other = write_wall(tmp_path / 'other', late=1.0)
    config = tmp_path / 'small.yaml'
    for settings, data, message in ((POSENET, other, 'the map wall was not built from this capture but from'),
                                    ({'kind': 'coordinates'}, wall[0], 'regressor.kind is coordinates; it must be')):
        config.write_text(yaml.safe_dump({'regressor': settings}))
        assert main(['benchmark', 'priors', 'wall', '--data', str(data), '--map-dir', str(wall[1]), '--work', str(tmp_path / 'work'),
                     '--regressors', str(config), '--device', 'cpu']) == 1
        assert message in capsys.readouterr().err


def test_adapt_teaches_another_regressor_too(wall, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_adapt, 'answered', lambda bundle, frames, *rest: (frames, torch.ones(len(frames), dtype=torch.bool)))
    found = []

    def adaptation(bundle, *rest):
        found.append(bundle)
        return SimpleNamespace(regressor=bundle.regressor, good=True)
    monkeypatch.setattr(benchmark_adapt, '_RUN', 2)
    monkeypatch.setattr(benchmark_adapt, 'adaptation', adaptation)
    config = tmp_path / 'small.yaml'
    config.write_text(yaml.safe_dump({'regressor': POSENET}))
    first_cells(capsys, 'adapt', 'wall', '--data', wall[0], '--map-dir', wall[1], '--work', tmp_path / 'work', '--regressor', config,
                '--methods', 'pseudo')
    manifest = found[0].manifest
    assert manifest.regressor.kind == 'posenet' and manifest.camera.height == 32 and found[0].regressor.backbone.name == 'resnet34'


def test_adapt_prints_a_row_for_each_method(wall, tmp_path, capsys, monkeypatch):
    quick = AdaptationTraining(steps=1, short_side=12, rehearsed=2)
    monkeypatch.setattr(adapt_map, 'METHODS', dict.fromkeys(METHODS, quick))
    monkeypatch.setattr(adapt_map, 'FEWEST', 2)
    monkeypatch.setattr(benchmark_adapt, '_RUN', 2)
    monkeypatch.setattr(benchmark_adapt, 'answered', lambda bundle, frames, *rest: (frames, torch.ones(len(frames), dtype=torch.bool)))
    monkeypatch.setattr(adapt_map, 'exam_split', lambda count: (torch.tensor([0]), torch.tensor([1])))
    output, cells = first_cells(capsys, 'adapt', 'wall', '--data', wall[0], '--map-dir', wall[1], '--work', tmp_path / 'work', '--gamma', 2)
    assert cells == ['regressor', 'before', *METHODS] and '2 images teach, 2 score, gamma 2' in output
    dark = cv2.imread(str(tmp_path / 'work' / 'images' / '000000.png'))
    bright = cv2.imread(str(wall[0] / 'test' / f'{TRAIN:02d}.png'))
    assert abs(dark[20, 20].astype(float) - 255 * (bright[20, 20] / 255) ** 2).max() < 1
