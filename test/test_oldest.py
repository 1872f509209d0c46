"""With the oldest packages that setup.py allows, those of Ubuntu 24.04, and ROS Jazzy: what runs on a robot runs there."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from environments import ROOT, clean_environment, create_environment
from test_package import copy_sources

JAZZY = 'ros-rclpy==7.1.6'
RUNTIME = (
    'test_camera', 'test_cli', 'test_cloud', 'test_config', 'test_covariance', 'test_demo*', 'test_display', 'test_extractor',
    'test_fields', 'test_frames', 'test_gate', 'test_geometry', 'test_histogram', 'test_initial_pose', 'test_lens',
    'test_localizer', 'test_map_bundle', 'test_motion', 'test_networks', 'test_node*', 'test_nre*', 'test_odometry',
    'test_parameters', 'test_player', 'test_points', 'test_refine_[!f]*', 'test_replay*', 'test_ros_*', 'test_services',
    'test_tf_output', 'test_tracking', 'test_transforms', 'test_viewer', 'test_worker')


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
        modules = sorted({str(path) for pattern in RUNTIME for path in (ROOT / 'test').glob(f'{pattern}.py')})
        run = subprocess.run([str(binaries / 'python'), '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *modules], cwd=ROOT,
                             env=clean_environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    print(run.stdout.splitlines()[-1])
