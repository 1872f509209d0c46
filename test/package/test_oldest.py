"""With the oldest packages that setup.py allows, those of Ubuntu 24.04, and ROS Jazzy: what runs on a robot runs there."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from environments import clean_environment, create_environment
from repository import ROOT
from test_package import copy_sources

JAZZY = 'ros-rclpy==7.1.6'
# What only builds, measures or installs maps and this package; all other tests run.
ELSEWHERE = (
    'test_augmentation', 'test_benchmark*', 'test_build', 'test_calibration*', 'test_colcon', 'test_datasets*', 'test_depths',
    'test_descriptors', 'test_docs', 'test_loop', 'test_losses', 'test_masks', 'test_metres_tags', 'test_multiprocess', 'test_nefes*',
    'test_normalisation', 'test_oldest', 'test_package', 'test_place', 'test_presets', 'test_refine_flops', 'test_sift',
    'test_synthesis', 'test_triangulation', 'test_views')


def oldest():
    """The lower bounds of setup.py as pins."""
    required = re.search(r'install_requires=\[(.*?)\]', (ROOT / 'setup.py').read_text(), re.DOTALL).group(1)
    return [f'{name}=={version}' for name, version in re.findall(r"'([\w-]+)>=([\d.]+)", required)]


def test_every_requirement_has_a_lower_bound():
    assert {pin.split('==')[0] for pin in oldest()} == {
        'torch', 'numpy', 'opencv-python-headless', 'safetensors', 'PyYAML'}


@pytest.mark.slow
def test_the_runtime_works_with_the_oldest_packages(tmp_path):
    # PyTorch of that time brings gigabytes of CUDA: gone when the test ends.
    with tempfile.TemporaryDirectory(prefix='aprloc_oldest_') as directory:
        constraints = tmp_path / 'constraints.txt'
        constraints.write_text('\n'.join([*oldest(), JAZZY]))
        project = copy_sources(tmp_path / 'aprloc_ros')
        binaries = create_environment(Path(directory) / 'venv', f'{project}[ros,eval,train,test]', '--constraint', str(constraints))
        modules = sorted(str(path) for path in (ROOT / 'test').rglob('test_*.py')
                         if not any(path.match(f'{pattern}.py') for pattern in ELSEWHERE))
        run = subprocess.run([str(binaries / 'python'), '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *modules], cwd=ROOT,
                             env=clean_environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    print(run.stdout.splitlines()[-1])
