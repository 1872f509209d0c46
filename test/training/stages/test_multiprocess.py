"""Two processes under torchrun: gradients, running statistics and decisions are shared, and one map is written."""

import os
import subprocess
import sys

import pytest
import torch
from repository import ROOT
from tiny_capture import write_settings, write_wall
from torch import nn

from aprloc_ros.catalogue import list_maps
from aprloc_ros.map_bundle import load_map
from aprloc_ros.training.stages.loop import average_buffers, average_gradients, make_fabric

# First what the processes share, in a folder of its own, then a build as `torchrun -m aprloc_ros.cli build` does it.
SHARE = '''
import sys
import torch
from torch import nn
from unittest.mock import patch
from aprloc_ros.cli import main
from aprloc_ros.training.stages import regressor
from aprloc_ros.training.stages.loop import Loop, average_buffers, average_gradients, make_fabric, step_generator
from aprloc_ros.training.stages.regressor import RegressorTraining
fabric = make_fabric('cpu')
rank = fabric.global_rank
model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
model[0].weight.grad = torch.full((3, 2), 1.0 + rank)
model[0].bias.grad = torch.tensor([1.0, 2.0, 3.0]) * (1 - 2 * rank)
if rank:                                   # the other process has no gradient there
    model[2].weight.grad = torch.ones(1, 3)
average_gradients(fabric, model.parameters())
model[1].running_mean.fill_(4.0 + 2 * rank)
model[1].num_batches_tracked.fill_(5)
average_buffers(fabric, model)
# A validation that scores differently in each process must still end in the same decision.
errors = iter([[1.0, 1.0], [2.0, 0.5], [2.0, 0.2]])
def scores(*_):
    return torch.full((3,), next(errors)[rank]), torch.zeros(3)
class Scene:
    pose_unit_m = 1.0
class Views:
    images = T_map_cam = None
from pathlib import Path
loop = Loop('toy', fabric, Path(sys.argv[1]), 9, {'model': model}, {})
loop._bar = type('Bar', (), {'set_postfix': lambda *_, **__: None})()
optimizer = torch.optim.Adam(model.parameters(), 1.0)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
config = RegressorTraining(steps=1, schedule='plateau', patience=2)
memory = {'best': None, 'best_score': float('inf'), 'waited': 0}
with patch.object(regressor, 'predict_poses'), patch.object(regressor, 'pose_errors', scores):
    for _ in range(3):
        regressor._validate(fabric, loop, model, Views, Scene, scheduler, config, memory)
torch.save({'gradients': [p.grad for p in model.parameters()], 'buffers': dict(model.named_buffers()),
            'draw': torch.rand(3, generator=step_generator(fabric, 0, 0)), 'stopped': loop.stopped,
            'rate': optimizer.param_groups[0]['lr'], 'best_score': memory['best_score']}, f'{sys.argv[1]}/{rank}.pt')
sys.exit(main(sys.argv[2:]))
'''


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """One run of two processes, since each takes seconds to begin -> its folder, what it printed, and its errors."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'share.py').write_text(SHARE)
    wall, config = write_wall(folder / 'wall'), write_settings(folder / 'tiny.yaml')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', folder / 'share.py', folder,
               'build', 'wall', '--data', wall, '--config', config, '--map-dir', folder / 'maps', '--device', 'cpu']
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
                          capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope='module')
def shared(run):
    """What two processes hold after they have averaged and decided."""
    return [torch.load(run[0] / f'{rank}.pt', weights_only=True) for rank in (0, 1)]


def test_gradients_are_the_mean_over_the_processes(shared):
    for rank in shared:
        weight, bias, _, _, last, _ = rank['gradients']
        assert torch.equal(weight, torch.full((3, 2), 1.5))
        assert torch.equal(bias, torch.zeros(3))
        assert torch.equal(last, torch.full((1, 3), 0.5))


def test_running_statistics_are_the_mean_over_the_processes(shared):
    for rank in shared:
        assert rank['buffers']['1.running_mean'].tolist() == [5.0] * 3
        assert rank['buffers']['1.num_batches_tracked'].item() == 5


def test_all_processes_take_the_first_ones_decision(shared):
    """By its own scores (1, 0.5, 0.2) the second process would not have stopped."""
    for rank in shared:
        assert rank['stopped'] and rank['best_score'] == 1.0
        assert rank['rate'] == 0.25
    assert not torch.equal(shared[0]['draw'], shared[1]['draw'])


def test_one_process_has_nothing_to_average():
    fabric, layer = make_fabric('cpu'), nn.BatchNorm1d(2)
    layer.weight.grad = torch.tensor([1.0, 2.0])
    average_gradients(fabric, layer.parameters())
    average_buffers(fabric, layer)
    assert layer.weight.grad.tolist() == [1.0, 2.0] and layer.bias.grad is None
    assert layer.running_mean.tolist() == [0.0, 0.0]


def test_two_processes_build_one_map(run):
    folder, done = run
    assert done.stdout.count('frames to fit') == 1
    for text in ('Traceback', 'Warning'):
        assert text not in done.stderr
    assert list_maps(folder / 'maps')['wall'] == folder / 'maps/wall'
    assert sorted(os.listdir(folder / 'maps')) == ['.building', 'wall']
    manifest = load_map(folder / 'maps/wall', 'cpu').manifest
    assert len(manifest.history['regressor']) == 3 and manifest.accuracy['frames'] == 4
