"""The training loop: a run that was stopped, or killed, ends as the one that was not."""

import csv
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nursery import Forked
from torch import nn

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.stages import clock
from aprloc_ros.training.stages.clock import Clock
from aprloc_ros.training.stages.loop import Loop, average_gradients, make_fabric, step_generator, write_atomically

STEPS = 45
pytestmark = pytest.mark.usefixtures('one_thread')


class Interrupted(Exception):
    pass


@pytest.fixture(scope='module')
def fabric():
    return make_fabric('cpu')


def train(fabric, directory: Path, until: int | None = None, checkpoint_every_s: float = -1.0, steps: int = STEPS):
    """A small training with everything that has a state; raises Interrupted in the middle of step `until`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 5)], [5])
    memory = {'best': float('inf'), 'images': None}
    loop = Loop('toy', fabric, directory, steps, {'model': model, 'optimizer': optimizer, 'scheduler': scheduler},
                memory, checkpoint_every_s)
    for step in loop:
        generator = step_generator(fabric, 7, step)
        if step % 10 == 0:
            memory['images'] = torch.rand(6, 3, generator=generator)
        x = torch.rand(16, 3, generator=generator) + memory['images'].mean()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == until:
            raise Interrupted
        average_gradients(fabric, model.parameters())
        optimizer.step()
        scheduler.step()
        memory['best'] = min(memory['best'], loss.item())
        loop.log(loss=loss)
        if step == 17:
            loop.log(score=3.0, force=True)
    return {**model.state_dict(), 'best': torch.tensor(memory['best'])}


def steps_in_curve(directory: Path) -> list[int]:
    with open(directory / 'toy.csv', newline='') as file:
        return [int(row['step']) for row in csv.DictReader(file)]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope='module')
def uninterrupted(one_thread, fabric, tmp_path_factory):
    return train(fabric, tmp_path_factory.mktemp('whole'), checkpoint_every_s=1e9)


@pytest.mark.parametrize('at', range(0, STEPS, 4))
def test_a_stopped_run_goes_on_bit_by_bit(fabric, tmp_path, uninterrupted, at):
    with pytest.raises(Interrupted):
        train(fabric, tmp_path, until=at)
    assert same(train(fabric, tmp_path), uninterrupted)
    assert steps_in_curve(tmp_path) == [0, 17, 20, 40]


def test_a_run_that_is_stopped_at_every_step(fabric, tmp_path, uninterrupted):
    for at in range(1, STEPS):
        with pytest.raises(Interrupted):
            train(fabric, tmp_path, until=at)
    assert same(train(fabric, tmp_path), uninterrupted)


def test_a_checkpoint_that_is_older_than_the_stop(fabric, tmp_path, uninterrupted):
    """The steps behind the checkpoint are done again, with the same random numbers."""
    train(fabric, tmp_path, steps=12, checkpoint_every_s=1e9)
    with pytest.raises(Interrupted):
        train(fabric, tmp_path, until=30, checkpoint_every_s=1e9)
    assert same(train(fabric, tmp_path), uninterrupted)
    assert steps_in_curve(tmp_path) == [0, 17, 20, 40]


def test_a_finished_run_is_not_trained_again(fabric, tmp_path, uninterrupted):
    train(fabric, tmp_path)
    assert same(train(fabric, tmp_path, until=0), uninterrupted)


KILLED = '''
import os, signal, sys
from pathlib import Path
import test_loop
from aprloc_ros.training.stages import loop
test_loop.torch.set_num_threads(1)
directory, moment = Path(sys.argv[1]), sys.argv[2]
saves = []
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == 'half a checkpoint':
    original = loop.torch.save
    def save(content, file):
        saves.append(1)
        if len(saves) == 9:
            file.write(b'half')
            file.flush()
            die()
        original(content, file)
    loop.torch.save = save
if moment == 'before the rename':
    original = os.replace
    def replace(*paths):
        saves.append(1)
        original(*paths) if len(saves) < 9 else die()
    loop.os.replace = replace
if moment == 'in a step':
    def average(*_):
        saves.append(1)
        if len(saves) == 9:
            die()
    test_loop.average_gradients = average
test_loop.train(test_loop.make_fabric('cpu'), directory)
'''


@pytest.mark.parametrize('moment', ['half a checkpoint', 'before the rename', 'in a step'])
def test_a_killed_process_leaves_a_whole_checkpoint(fabric, tmp_path, uninterrupted, moment):
    killed = Forked(KILLED, [tmp_path, moment], tmp_path / 'log')
    assert killed.wait() == -signal.SIGKILL, (tmp_path / 'log').read_text()
    assert torch.load(tmp_path / 'toy.ckpt', weights_only=True)['step'] == 8
    assert same(train(fabric, tmp_path), uninterrupted)
    assert steps_in_curve(tmp_path) == [0, 17, 20, 40]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_atomically(tmp_path / 'a.pt', {'x': 1})
    with pytest.raises(AttributeError):
        write_atomically(tmp_path / 'a.pt', {'x': lambda: None})     # cannot be pickled
    assert torch.load(tmp_path / 'a.pt', weights_only=True) == {'x': 1}


def test_early_stopping_ends_the_stage_for_good(fabric, tmp_path):
    def run():
        part = nn.Linear(1, 1)
        loop = Loop('toy', fabric, tmp_path, 100, {'part': part}, {})
        done = []
        for step in loop:
            done.append(step)
            if step == 6:
                loop.stop()
        return done
    assert run() == [0, 1, 2, 3, 4, 5, 6]
    assert run() == []


def test_each_step_and_process_has_random_numbers_of_its_own():
    class Process:
        device, world_size = torch.device('cpu'), 2

        def __init__(self, rank):
            self.global_rank = rank
    draws = [torch.rand(4, generator=step_generator(Process(rank), seed, step))
             for seed in (0, 1) for step in range(20) for rank in (0, 1)]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)
    assert torch.equal(draws[0], torch.rand(4, generator=step_generator(Process(0), 0, 0)))


def test_the_clock_adds_up_the_sessions(tmp_path, monkeypatch):
    now_s = [time.time()]                   # thousands of seconds pass at once: what the machine takes does not count
    monkeypatch.setattr(clock, 'time', SimpleNamespace(time=lambda: now_s[0], monotonic=lambda: now_s[0]))
    monkeypatch.setattr(Path, 'touch', lambda path: (path.open('ab').close(), os.utime(path, (now_s[0], now_s[0]))))
    first = Clock(tmp_path)
    now_s[0] += 3000
    first.pause()
    now_s[0] += 50_000                      # nobody works
    second = Clock(tmp_path)
    assert second.seconds == pytest.approx(3000, abs=300)
    now_s[0] += 2000
    (tmp_path / 'field.ckpt').touch()       # then the session is killed
    now_s[0] += 50_000
    assert Clock(tmp_path).seconds == pytest.approx(5000, abs=600)


def test_an_unknown_device_is_refused():
    with pytest.raises(AprlocError, match='tpu'):
        make_fabric('tpu')
