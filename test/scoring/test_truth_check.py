"""A drive in another frame is told from one that shows a map's own mistakes."""

import re
from types import SimpleNamespace

import pytest
import torch
from tiny_map import tiny_manifest

from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import invert, se3_exp
from aprloc_ros.scoring import evaluation
from aprloc_ros.scoring.evaluation import make_record
from aprloc_ros.scoring.truth_check import check_drive, doubt
from aprloc_ros.training import datasets

COUNT = 20


@pytest.fixture
def manifest():
    manifest = tiny_manifest()
    manifest.accuracy.update(p95_m=0.01, p95_deg=0.1)
    return manifest


def answers(believed: int = COUNT) -> tuple[torch.Tensor, list[str]]:
    xi = torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(0)).double()
    return se3_exp(xi), ['refined'] * believed + ['rejected'] * (COUNT - believed)


def records(T_drive, T_answer, statuses, slip=0.003):
    slips = se3_exp(slip * torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(1)).double())
    return [make_record(f'{i}', float(i), truth, answer @ slip, 1.0, status, torch.eye(6).double(), 1.0)
            for i, (truth, answer, slip, status) in enumerate(zip(T_drive, T_answer, slips, statuses))]


@pytest.mark.parametrize('half', [8, 3])
def test_a_part_in_another_frame_is_told_where_less_is_allowed(manifest, half):
    """A SLAM that found itself elsewhere after half of the drive: a map must not learn from that."""
    T, statuses = answers()
    moved = torch.cat([se3_exp(torch.ones(6, dtype=torch.float64)) @ T[:half], T[half:]])
    assert check_drive(records(moved, T, statuses), manifest).startswith('drive: ')
    text = check_drive(records(moved, T, statuses), manifest, 0.2)
    assert text.startswith(f'WARNING: drive: {half} of 20' if half == 8 else f'drive: {half} of 20')


def test_a_drive_in_the_maps_frame_is_right(manifest):
    T, statuses = answers()
    assert check_drive(records(T, T, statuses), manifest).startswith('drive: 0 of 20 answers')


def test_another_map_frame_is_named_with_its_numbers(manifest):
    T, statuses = answers()
    other = se3_exp(torch.tensor([0.0, 0, 0, 0, 0, 0.5]).double())
    other[:3, 3] = torch.tensor([3.0, 4.0, 0.0])
    with pytest.raises(AprlocError, match=r'20 of 20 answers.*another map frame: .* turned by 28.\d deg and moved by [45]\..*another place that looks alike'):
        check_drive(records(other @ T, T, statuses), manifest)


def test_another_map_frame_is_named_where_answers_are_worse_than_the_maps_own(manifest):
    """The next room, 40 m on, looks nearly alike: answers are off by a tenth of a degree, and the frame is not turned at all."""
    T, statuses = answers()
    other = torch.eye(4, dtype=torch.float64)
    other[0, 3] = 40.0
    manifest.accuracy.update(p95_m=0.003, p95_deg=0.015)   # the demo's
    slips = se3_exp(torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(3)).double() * torch.tensor([0.01] * 3 + [0.0015] * 3))
    with pytest.raises(AprlocError, match=r'20 of 20 answers.*another map frame: .*moved by (39\.9|40\.0)'):
        check_drive(records(other @ T @ slips, T, statuses, 0.0001), manifest)


def test_another_frame_of_the_robot_is_named(manifest):
    T, statuses = answers()
    T_base_cam = se3_exp(torch.tensor([0.3, 0, 0, 0, 0.2, 0]).double())
    with pytest.raises(AprlocError, match='another frame of the robot'):
        check_drive(records(T @ invert(T_base_cam), T, statuses), manifest)


@pytest.mark.parametrize('body', [False, True])
def test_poses_that_are_off_by_little_but_all_alike_are_told(manifest, body):
    """4 cm and 0.5 degrees where 10 cm and a degree would be far."""
    T, statuses = answers()
    little = se3_exp(torch.tensor([0.04, 0, 0, 0, 0.01, 0]).double())
    told = 'another frame of the robot, turned by 0.6 deg and 0.0[34]' if body else 'another map frame: they fit when turned by 0.6 deg and moved'
    with pytest.raises(AprlocError, match=f'20 answers .* by little .* all alike: its poses are of {told}'):
        check_drive(records(T @ invert(little) if body else little @ T, T, statuses, 0.001), manifest)


@pytest.mark.parametrize('scale', [0.3048, 0.9, 1.1, 3.28])
@pytest.mark.parametrize('moved', [(0.0, 0, 0, 0, 0, 0), (4.0, -1, 0.5, 0.1, 0.6, 0)])
def test_poses_of_another_scale_are_told_with_it(manifest, scale, moved):
    """Feet for metres, or a SLAM of one eye; in the map's frame otherwise, or in its own."""
    T, statuses = answers()
    drive = T.clone()
    drive[:, :3, 3] *= scale
    with pytest.raises(AprlocError, match='all alike: its poses are of another scale: ') as raised:
        check_drive(records(se3_exp(torch.tensor(moved).double()) @ drive, T, statuses, 0.001), manifest)
    assert float(re.search(r'taken (\S+) times', str(raised.value))[1]) == pytest.approx(scale, rel=0.01)


def test_a_robot_that_turns_on_the_spot_has_no_scale(manifest):
    T, statuses = answers()
    T[:, :3, 3] = T[0, :3, 3]
    assert check_drive(records(T, T, statuses), manifest).startswith('drive: 0 of 20')
    other = se3_exp(torch.tensor([4.0, -1, 0.5, 0.1, 0.6, 0]).double())
    with pytest.raises(AprlocError, match='another map frame'):
        check_drive(records(other @ T, T, statuses), manifest)


def test_errors_of_a_map_in_another_light_are_no_other_frame(manifest):
    """As large, each in its direction."""
    T, statuses = answers()
    slips = se3_exp(torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(2)).double() * torch.tensor([0.03] * 3 + [0.006] * 3))
    assert check_drive(records(T @ slips, T, statuses), manifest).startswith('drive: ')


def test_answers_that_are_wrong_each_in_its_way_are_what_calibration_is_for(manifest):
    T, statuses = answers()
    assert 'WARNING' in check_drive(records(T.flip(0), T, statuses), manifest)


def test_few_answers_tell_another_frame_but_no_little_difference(manifest):
    """Of nine believed answers, as a photo collection holds out."""
    T, statuses = answers(9)
    assert check_drive(records(T, T, statuses), manifest).startswith('drive: 0 of 9')
    other = se3_exp(torch.tensor([4.0, -1, 0.5, 0.1, 0.6, 0]).double())
    assert '9 of 9 answers' in doubt(records(other @ T, T, statuses), manifest)
    little = se3_exp(torch.tensor([0.04, 0, 0, 0, 0.01, 0]).double())
    assert doubt(records(little @ T, T, statuses, 0.001), manifest) == ''


def test_a_map_that_believes_little_says_nothing(manifest):
    T, statuses = answers(5)
    assert 'not checked' in check_drive(records(T.flip(0), T, statuses), manifest)


def test_a_score_says_that_its_truth_contradicts_the_map(manifest):
    T, statuses = answers()
    other = se3_exp(torch.tensor([4.0, -1, 0.5, 0.1, 0.6, 0]).double())
    assert doubt(records(T, T, statuses), manifest) == '' == doubt([], manifest)
    assert 'WARNING: the drive contradicts the map' in doubt(records(other @ T, T, statuses), manifest)
    assert doubt(records(T.flip(0), T, statuses), manifest).startswith('WARNING')


def test_evaluate_says_it_beside_its_table(tiny_map, monkeypatch, capsys):
    T, statuses = answers()
    frames = tuple(SimpleNamespace(T_map_cam=pose) for pose in T)
    capture = SimpleNamespace(train=frames, test=frames, notes=(), name='drive')
    monkeypatch.setattr(datasets, 'read_capture', lambda path: capture)
    other = se3_exp(torch.tensor([4.0, -1, 0.5, 0.1, 0.6, 0]).double())
    monkeypatch.setattr(evaluation, 'evaluate_map', lambda *_: records(other @ T, T, statuses))
    assert main(['evaluate', tiny_map.name, '--map-dir', str(tiny_map.parent), '--data', 'drive']) == 0
    said = capsys.readouterr()
    assert 'WARNING: the drive contradicts the map' in said.err + said.out
