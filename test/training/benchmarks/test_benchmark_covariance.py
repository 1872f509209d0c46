"""`aprloc benchmark covariance`: its table, on answers of a world whose truth is known."""

import types

import pytest
import torch
from calibration_fixtures import PRIOR, World
from repository import ROOT

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.benchmarks import covariance as benchmark

MAP = ROOT / 'maps'


def test_each_covariance_is_a_row_and_those_that_were_fitted_by_quarters(monkeypatch, capsys):
    world = World(0)
    answers = benchmark._Answers(PRIOR, world.trials(80), {'as it is': world.trials(200, per_frame=0)})
    monkeypatch.setattr(benchmark, '_trials', lambda bundle, refiner, options: answers)
    monkeypatch.setattr(benchmark, '_print_pooled', lambda work, refiner: None)
    benchmark.benchmark_covariance(types.SimpleNamespace(name='demo', map_dir=MAP, device='cpu', refiner='nre', work=None))
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[1].strip(): cells for cells in (line.split('|') for line in lines if line.startswith('| '))}
    assert len(rows) == 1 + 4 + 2 * 2 * 4 and 'answers of 80 to calibrate on' in lines[0]
    anees = {name: float(cells[3].split()[0]) for name, cells in rows.items() if name != 'covariance'}
    assert anees['neighbourhoods left out'] == pytest.approx(6, abs=1.5)
    assert anees['Hessian as it comes'] > 30   # three times too sure
    assert sum(int(cells[2]) for name, cells in rows.items() if name.startswith('neighbourhoods left out, ')) \
        == 2 * int(rows['constant'][2])


def test_a_map_without_a_refiner_is_asked_for_one(monkeypatch):
    manifest = types.SimpleNamespace(refiner='none')
    monkeypatch.setattr(benchmark, 'load_map', lambda path, device: types.SimpleNamespace(manifest=manifest))
    with pytest.raises(AprlocError, match='--refiner'):
        benchmark.benchmark_covariance(types.SimpleNamespace(name='demo', map_dir=MAP, device='cpu', refiner=None))


def test_answers_are_kept_for_another_look(monkeypatch, tmp_path):
    """The second time nothing is asked."""
    torch.save(benchmark._Answers(PRIOR, World(1).trials(4), {'as it is': World(1).trials(2)}), tmp_path / 'demo-nre.pt')
    kept = benchmark._trials(None, 'nre', types.SimpleNamespace(name='demo', work=tmp_path))
    assert (len(kept.learned), len(kept.held_out['as it is'])) == (16, 8)


def test_maps_and_damages_are_pooled(tmp_path, capsys):
    """Two maps of one kind of world, whose damaged images fail more often: the signals tell, and few that pass are wrong."""
    for seed in (0, 1):
        world, worse = World(seed), World(10 + seed, fails=0.5)
        answers = benchmark._Answers(PRIOR, world.trials(40, per_frame=1), {
            'as it is': world.trials(60, per_frame=0), 'half covered': worse.trials(60, per_frame=0)})
        torch.save(answers, tmp_path / f'map{seed}-nre.pt')
    torch.save('of another refiner', tmp_path / 'map0-align.pt')
    benchmark._print_pooled(tmp_path, 'nre')
    rows = {cells[1].strip(): cells for cells in (line.split('|') for line in capsys.readouterr().out.splitlines())}
    whole, damaged, every = (rows[name] for name in ('as it is', 'all damaged images', 'all images'))
    assert [int(cells[2]) for cells in (whole, damaged, every)] == [120, 120, 240]
    assert int(whole[3]) > 100 and 40 < int(damaged[3]) < 80 and int(every[3]) == int(whole[3]) + int(damaged[3])
    assert all(int(cells[4].split()[0]) <= 2 and float(cells[7].split()[0]) > 0.95 for cells in (whole, damaged, every))
    assert all(85 <= float(cells[5].strip(' %')) for cells in (whole, damaged, every))
    assert float(whole[8]) == pytest.approx(1.13, abs=0.3)   # of a right isotropic Gaussian: sqrt(3) sigma to 1.54 sigma
