"""`aprloc benchmark covariance`: its table, on answers of a world whose truth is known."""

import types
from pathlib import Path

import pytest
import torch
from test_calibration import World

from aprloc_ros.training.benchmarks import covariance as benchmark

MAP = Path(__file__).parent.parent / 'maps'


def test_each_covariance_is_a_row_and_those_that_were_fitted_by_quarters(monkeypatch, capsys):
    world = World(0)
    monkeypatch.setattr(benchmark, '_trials', lambda bundle, refiner, options: (world.trials(80), world.trials(200, per_frame=0)))
    benchmark.benchmark_covariance(types.SimpleNamespace(name='demo', map_dir=MAP, device='cpu', refiner='nre'))
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[1].strip(): cells for cells in (line.split('|') for line in lines if line.startswith('| '))}
    assert len(rows) == 1 + 4 + 2 * 2 * 4 and 'answers of 80 to calibrate on' in lines[0]
    anees = {name: float(cells[3].split()[0]) for name, cells in rows.items() if name != 'covariance'}
    assert anees['neighbourhoods left out'] == pytest.approx(6, abs=1.5)
    assert anees['Hessian as it comes'] > 30   # three times too sure
    assert sum(int(cells[2]) for name, cells in rows.items() if name.startswith('neighbourhoods left out, ')) \
        == 2 * int(rows['constant'][2])


def test_answers_are_kept_for_another_look(monkeypatch, tmp_path):
    """The second time nothing is asked."""
    kept = World(1).trials(4), World(1).trials(2)
    torch.save(kept, tmp_path / 'demo-nre.pt')
    options = types.SimpleNamespace(name='demo', work=tmp_path)
    learned, held_out = benchmark._trials(None, 'nre', options)
    assert (len(learned), len(held_out)) == tuple(map(len, kept))
