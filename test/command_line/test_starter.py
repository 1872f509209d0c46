"""What a launch or a player started ends when that was killed, too hard to tell it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from aprloc_ros.starter import ending_with_us, starter_lives

STARTER = '''
import os, subprocess, sys, time
from aprloc_ros.starter import ending_with_us
process = subprocess.Popen([sys.executable, '-m', 'aprloc_ros.relocalize'], env={**os.environ, **ending_with_us()})
print(process.pid, flush=True)
time.sleep(600)
'''
PATIENCE_S = 300.0


def test_whoever_was_not_told_to_end_with_somebody_goes_on(monkeypatch):
    monkeypatch.delenv('APRLOC_ENDS_WITH', raising=False)
    assert starter_lives()


def test_the_starter_is_found_while_it_lives(monkeypatch):
    starter = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    monkeypatch.setenv('APRLOC_ENDS_WITH', str(starter.pid))
    assert starter_lives()
    starter.kill()
    starter.communicate()
    assert not starter_lives()
    monkeypatch.setenv('APRLOC_ENDS_WITH', ending_with_us()['APRLOC_ENDS_WITH'])
    assert starter_lives()


def test_a_node_ends_with_the_launch_that_was_killed():
    pytest.importorskip('rclpy', reason='ROS is not installed')
    starter = subprocess.Popen([sys.executable, '-c', STARTER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    node = int(starter.stdout.readline())
    while 'cannot configure' not in starter.stderr.readline():   # without a map it is up, and waits
        assert starter.poll() is None
    os.kill(node, 0)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    end_s = time.monotonic() + PATIENCE_S
    while is_running(node):
        assert time.monotonic() < end_s, 'the node is an orphan'
        time.sleep(0.05)


def is_running(pid):
    """Not ended, and not waiting to be reaped."""
    try:
        with open(f'/proc/{pid}/stat') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False
