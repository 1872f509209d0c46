"""Every run has a ROS domain of its own, on this machine alone: no robot, no other run hears it."""

import itertools
import os
import re
import signal

import pytest

os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ['OMP_NUM_THREADS'] = '1'   # of each worker: two that take all cores starve each other
# A shell starts background jobs with SIGINT ignored, and every process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)   # before xdist looks for the groups
def pytest_collection_modifyitems(items):
    """Of two workers one alone speaks DDS, which loses messages where many come and go at once; else a file stays in one."""
    if 'PYTEST_XDIST_WORKER' not in os.environ:
        return
    speaks = {path: bool(re.search(r'rclpy|ros_peer|aprloc_ros\.command_line\.(demo|drive)|test_demo|running_nodes', path.read_text()))
              for path in {item.path for item in items}}
    for item in items:
        item.add_marker(pytest.mark.xdist_group('DDS' if speaks[item.path] else item.path.name))


@pytest.fixture(scope='module')
def one_thread():
    """For trainings that are compared bit by bit: the number of threads decides the last bits of a sum."""
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def look_ms(monkeypatch):
    """time.perf_counter() stands still but for so many milliseconds at each look."""
    looks, period_ms = itertools.count(), 10.0
    monkeypatch.setattr('time.perf_counter', lambda: 1e-3 * period_ms * next(looks))
    return period_ms


@pytest.fixture
def undrawn(monkeypatch):
    """Reports go without the figures of their records, which take seconds to draw."""
    # Both are there before either is changed, for one takes the function from the other.
    from aprloc_ros.scoring import replay_report, report
    for module in (report, replay_report):
        monkeypatch.setattr(module, 'record_figures', lambda *_: {})


@pytest.fixture(scope='session')
def tiny_map(tmp_path_factory):
    """Directory of a map with random weights, named tiny."""
    from tiny_map import save_tiny_map
    return save_tiny_map(tmp_path_factory.mktemp('maps') / 'tiny')


@pytest.fixture(scope='session')
def tiny_wall(tmp_path_factory):
    """A capture of a textured wall, and settings that build a map of it in seconds. To be copied before it is changed."""
    from tiny_capture import write_settings, write_wall
    folder = tmp_path_factory.mktemp('captures')
    return write_wall(folder / 'wall'), write_settings(folder / 'tiny.yaml')


@pytest.fixture(scope='session')
def built_wall(tiny_wall, tmp_path_factory):
    """The map of it, by one thread and uninterrupted. To be copied before it is changed."""
    import torch

    from aprloc_ros.training.build_map import build
    threads, (capture, settings) = torch.get_num_threads(), tiny_wall
    torch.set_num_threads(1)
    target = build('wall', capture, map_dir=tmp_path_factory.mktemp('maps'), config=settings, device='cpu')
    torch.set_num_threads(threads)
    return target


@pytest.fixture(scope='session')
def walked(tmp_path_factory):
    """Frames of a short walk through the demo place."""
    from agreement_fixtures import photographed, walk
    return photographed(tmp_path_factory.mktemp('walk'), walk())


@pytest.fixture(scope='module')
def peer():
    """What talks to the node, over DDS."""
    pytest.importorskip('rclpy', reason='ROS is not installed')
    from ros_peer import Peer
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def run(tmp_path, peer, tiny_map):
    """Starts nodes with the tiny map, which end with the test."""
    from ros_peer import running_nodes
    with running_nodes(tmp_path, peer, tiny_map) as start:
        yield start
