"""The tables of the NeFeS paper from the poses behind them."""


import numpy as np
import pytest
from repository import DATA

from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.scoring.predictions import medians_tables, score_folder

PUBLISHED = DATA / 'published_poses'
# NeFeS (CVPR 2024), Table 1 (Cambridge Landmarks) and Table 2 (7-Scenes): median m/deg, their averages last.
TABLES = {
    'Cambridge Landmarks': {
        '': 'KingsCollege OldHospital ShopFacade StMarysChurch average',
        'dfnet': '0.73/2.37 2.00/2.98 0.67/2.21 1.37/4.03 1.19/2.90',
        'nefes50': '0.37/0.54 0.52/0.88 0.15/0.53 0.37/1.14 0.35/0.77'},
    '7-Scenes': {
        '': 'chess fire heads office pumpkin redkitchen stairs average',
        'dfnet': '0.03/1.12 0.06/2.30 0.04/2.29 0.06/1.54 0.07/1.92 0.07/1.74 0.12/2.63 0.06/1.93',
        'nefes50': '0.02/0.57 0.02/0.74 0.02/1.28 0.02/0.56 0.02/0.55 0.02/0.57 0.05/1.28 0.02/0.79'}}
# The published matrices are rotations only to 1e-3, so that some medians depend on how they are made ones: ours are
# projected to SO(3). What the paper prints differs in the degrees of these scenes, by at most 0.05.
UNREPRODUCED = {'ShopFacade': '2.20', 'fire': '2.29', 'heads': '2.24', 'pumpkin': '1.89', 'redkitchen': '1.72'}
UNREPRODUCED_AVERAGE = {'7-Scenes': '1.92'}


@pytest.fixture(scope='module')
def printed():
    if not PUBLISHED.is_dir():
        pytest.skip('the published poses are not here')
    return medians_tables(score_folder(PUBLISHED))


@pytest.mark.parametrize('title', TABLES)
def test_the_published_tables_come_out_to_their_digits(printed, title):
    table = next(part for part in printed.split('\n\n') if part.startswith(title)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table[1:]}
    scenes = table[0].split()[-len(rows['dfnet']):]
    assert scenes == TABLES[title][''].split()
    assert rows['nefes50'] == TABLES[title]['nefes50'].split()
    for scene, ours, theirs in zip(scenes, rows['dfnet'], TABLES[title]['dfnet'].split(), strict=True):
        exception = UNREPRODUCED.get(scene) or (UNREPRODUCED_AVERAGE.get(title) if scene == 'average' else None)
        assert ours == (f'{theirs.split("/")[0]}/{exception}' if exception else theirs), scene
        assert float(ours.split('/')[1]) == pytest.approx(float(theirs.split('/')[1]), abs=0.0501)


def quaternion_by_square_roots(R):
    """[N, 3, 3] -> unit [N, 4]: each component from the diagonal alone, as PyTorch3D did it before 0.4."""
    x, y, z = R[:, 0, 0], R[:, 1, 1], R[:, 2, 2]
    squares = np.stack([1 + x + y + z, 1 + x - y - z, 1 - x + y - z, 1 - x - y + z], -1)
    signs = np.stack([np.ones(len(R)), R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], -1)
    q = np.copysign(np.sqrt(np.maximum(squares, 0)), signs)
    return q / np.linalg.norm(q, axis=1, keepdims=True)


@pytest.mark.parametrize('scene', ['fire', 'heads', 'pumpkin', 'redkitchen'])
def test_what_differs_is_how_a_rotation_is_made_of_the_published_matrix(scene):
    if not PUBLISHED.is_dir():
        pytest.skip('the published poses are not here')
    with np.load(PUBLISHED / f'{scene}.npz') as poses:
        truth, estimate = (quaternion_by_square_roots(poses[name][:, :3, :3]) for name in ('truth', 'dfnet'))
    median_deg = np.median(np.degrees(2 * np.arccos(np.clip(np.abs((truth * estimate).sum(1)), 0, 1))))
    column = TABLES['7-Scenes'][''].split().index(scene)
    assert f'{median_deg:.2f}' == TABLES['7-Scenes']['dfnet'].split()[column].split('/')[1]


def write_scene(path, shift_m, methods=('ours',)):
    truth = np.tile(np.eye(4)[:3], (4, 1, 1))
    moved = truth.copy()
    moved[:, 0, 3] += shift_m
    np.savez(path, truth=truth, **dict.fromkeys(methods, moved))


def test_a_folder_is_one_table_with_the_average(tmp_path, capsys):
    write_scene(tmp_path / 'attic.npz', 0.1)
    write_scene(tmp_path / 'barn.npz', 0.3, ('ours', 'theirs'))
    (tmp_path / '._barn.npz').write_bytes(b'what macOS leaves there')
    assert main(['evaluate', '--poses', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['other', 'scenes,', 'median', 'm/deg', 'attic', 'barn', 'average']
    assert lines[1].split() == ['ours', '0.10/0.00', '0.30/0.00', '0.20/0.00']
    assert lines[2].split() == ['theirs', '-', '0.30/0.00', '-']


def test_data_sets_are_averaged_apart(tmp_path):
    for scene, shift_m in (('chess', 0.2), ('stairs', 0.4), ('KingsCollege', 1.0)):
        write_scene(tmp_path / f'{scene}.npz', shift_m)
    cambridge, seven_scenes = medians_tables(score_folder(tmp_path)).split('\n\n')
    assert cambridge.endswith('1.00/0.00  1.00/0.00') and seven_scenes.endswith('0.20/0.00  0.40/0.00  0.30/0.00')


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(AprlocError, match='holds no npz of poses'):
        score_folder(tmp_path)
