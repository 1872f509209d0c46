"""The first five minutes of the README: its commands as they stand, in a shell, and what they print beside what it says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from example_image import example_pose
from repository import ROOT

NUMBER = re.compile(r'-?\d+\.\d+')
ALIKE = 2e-3   # metres, of another machine's rounding
TIME = re.compile(r'[\d.]+ ms')


def section():
    """(the commands, what they print) of the README."""
    text = (ROOT / 'README.md').read_text().split('## The first five minutes')[1].split('\n## ')[0]
    (commands,), (printed,) = (re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL) for language in ('sh', 'text'))
    return commands, printed.splitlines()


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    """Lines of a shell that is where the README leaves its reader: in the checkout, with its environment."""
    environment = Path(sys.prefix)
    if not (environment / 'bin/activate').is_file():
        pytest.skip('these tests run in no virtual environment')
    here = tmp_path_factory.mktemp('checkout')
    (here / '.venv').symlink_to(environment)
    (here / 'docs').symlink_to(ROOT / 'docs')
    run = subprocess.run(['bash', '-e', '-c', section()[0]], cwd=here, capture_output=True, text=True, check=False,
                         env={'PATH': '/usr/bin:/bin', 'HOME': str(here), 'APRLOC_MAP_PATH': str(ROOT / 'maps')})
    assert run.returncode == 0 and run.stderr == '', run.stderr
    assert 'frames' in (here / 'demo.html').read_text()
    return [line.rstrip() for line in run.stdout.splitlines()]


def test_they_print_what_the_readme_says(output):
    printed = section()[1]
    assert len(output) == len(printed)
    for said, line in zip(printed, output, strict=True):
        said, line = (TIME.sub('', re.sub(r'\S*/maps/demo$', '/maps/demo', text)) for text in (said, line))
        assert NUMBER.sub('', said).split() == NUMBER.sub('', line).split()
        np.testing.assert_allclose([float(n) for n in NUMBER.findall(line)], [float(n) for n in NUMBER.findall(said)], atol=ALIKE)


def test_the_pose_is_that_of_the_image(output):
    position, = (line for line in output if line.startswith('position'))
    std, = (line for line in output if line.startswith('std of position'))
    error_m = np.array([float(n) for n in NUMBER.findall(position)]) - example_pose()[:3, 3].numpy()
    assert np.linalg.norm(error_m) < 3 * np.linalg.norm([float(n) for n in NUMBER.findall(std)]) < 0.05
