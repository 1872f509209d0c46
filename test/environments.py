"""Python environments of their own, for tests of what other machines have installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def create_environment(directory, *requirements):
    """A virtual environment with these packages -> its bin/; skips the test where nothing can be downloaded."""
    subprocess.run([sys.executable, '-m', 'venv', str(directory)], check=True)
    pip = [str(directory / 'bin/python'), '-m', 'pip', 'install', '--quiet', '--no-cache-dir', *requirements]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f'cannot install {" ".join(requirements)}: {result.stderr.strip().splitlines()[-1]}')
    return directory / 'bin'


def clean_environment(**changes):
    """The variables for a process of another environment: nothing of this one's Python or ROS."""
    ours = ('PYTHON', 'VIRTUAL_ENV', 'LD_LIBRARY_PATH', 'AMENT_', 'COLCON_', '_ROS_')
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **changes}
