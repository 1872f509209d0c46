"""A workspace built with the real colcon: `aprloc` is a command as soon as the workspace is sourced."""

import subprocess

import pytest
from environments import clean_environment, create_environment
from test_package import copy_sources

from aprloc_ros import __version__

pytestmark = pytest.mark.slow
# The setuptools of Ubuntu 24.04, the oldest that PyTorch takes, the last with an option --editable, and one after it.
SETUPTOOLS = ('68.1.2', '77.0.3', '79.0.1', '84.2.1')


@pytest.fixture(scope='module', params=SETUPTOOLS)
def colcon(request, tmp_path_factory):
    """bin/ of an environment with colcon and one version of setuptools."""
    binaries = create_environment(tmp_path_factory.mktemp('colcon') / 'venv', 'colcon-common-extensions', 'colcon-ros')
    subprocess.run([str(binaries / 'python'), '-m', 'pip', 'install', '--quiet', f'setuptools=={request.param}'],
                   capture_output=True, check=True)   # colcon asks for less than 80, and users have more
    return binaries


def build(colcon, workspace, *options):
    """Build, source the workspace, and say which commands there are and what they say."""
    environment = clean_environment(PATH=f'{colcon}:/usr/bin:/bin', HOME=str(workspace))
    built = subprocess.run([str(colcon / 'colcon'), 'build', *options], cwd=workspace, env=environment,
                           capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    script = '. install/setup.bash && command -v aprloc relocalize && aprloc --version && aprloc maps'
    sourced = subprocess.run(['bash', '-c', script], cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    assert sourced.returncode == 0, sourced.stderr
    return sourced.stdout.splitlines()


@pytest.mark.parametrize('options', [(), ('--symlink-install',), ('--merge-install',)], ids=' '.join)
def test_a_sourced_workspace_has_the_commands_and_finds_the_demo(colcon, tmp_path, options):
    copy_sources(tmp_path / 'src/aprloc_ros')
    aprloc, relocalize, version, _, demo = build(colcon, tmp_path, *options)
    prefix = tmp_path / 'install' / ('' if '--merge-install' in options else 'aprloc_ros')
    assert (aprloc, relocalize) == (f'{prefix}/lib/aprloc_ros/aprloc', f'{prefix}/lib/aprloc_ros/relocalize')
    assert version == f'aprloc {__version__}'
    assert demo.split()[0] == 'demo' and 'BROKEN' not in demo and demo.endswith(f'{prefix}/share/aprloc_ros/maps/demo')
