"""What is installed: every module under one name, the files that ROS looks for, an executable that runs."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from repository import ROOT

SOURCES = ('aprloc_ros', 'training', 'launch', 'config', 'maps', 'resource', 'package.xml', 'colcon.pkg', 'setup.py',
           'setup.cfg', 'pyproject.toml')
XSD = '''<?xml version="1.0"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <!-- The part of REP 149 that this package's manifest uses, in the order that it prescribes. -->
  <xs:simpleType name="name"><xs:restriction base="xs:token"><xs:pattern value="[a-z](_?[a-z0-9]+)*"/>
  </xs:restriction></xs:simpleType>
  <xs:simpleType name="key"><xs:restriction base="xs:token"><xs:pattern value="[a-z][a-z0-9_+.\\-]*"/>
  </xs:restriction></xs:simpleType>
  <xs:simpleType name="version"><xs:restriction base="xs:token"><xs:pattern value="\\d+\\.\\d+\\.\\d+"/>
  </xs:restriction></xs:simpleType>
  <xs:simpleType name="email"><xs:restriction base="xs:token"><xs:pattern value="[^@\\s]+@[^@\\s]+\\.[^@\\s]+"/>
  </xs:restriction></xs:simpleType>
  <xs:element name="package"><xs:complexType>
    <xs:sequence>
      <xs:element name="name" type="name"/>
      <xs:element name="version" type="version"/>
      <xs:element name="description"><xs:simpleType><xs:restriction base="xs:token"><xs:minLength value="1"/>
      </xs:restriction></xs:simpleType></xs:element>
      <xs:element name="maintainer" maxOccurs="unbounded"><xs:complexType><xs:simpleContent>
        <xs:extension base="xs:token"><xs:attribute name="email" type="email" use="required"/></xs:extension>
      </xs:simpleContent></xs:complexType></xs:element>
      <xs:element name="license" maxOccurs="unbounded"><xs:complexType><xs:simpleContent>
        <xs:extension base="xs:token"><xs:attribute name="file" type="xs:token"/></xs:extension>
      </xs:simpleContent></xs:complexType></xs:element>
      <xs:choice minOccurs="0" maxOccurs="unbounded">
        <xs:element name="exec_depend" type="key"/>
        <xs:element name="test_depend" type="key"/>
      </xs:choice>
      <xs:element name="export" minOccurs="0"><xs:complexType><xs:sequence>
        <xs:element name="build_type" type="xs:token"/>
      </xs:sequence></xs:complexType></xs:element>
    </xs:sequence>
    <xs:attribute name="format" fixed="3" use="required"/>
  </xs:complexType></xs:element>
</xs:schema>'''


def test_the_manifest_is_parsed_without_a_warning():
    parse_package = pytest.importorskip('catkin_pkg.package').parse_package
    warnings = []
    package = parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.name == 'aprloc_ros' and package.get_build_type() == 'ament_python'
    assert package.licenses == ['Apache-2.0'] and (ROOT / package.licenses[0].file).is_file()


def test_the_manifest_has_the_form_of_rep_149():
    schema = pytest.importorskip('xmlschema').XMLSchema(XSD)
    schema.validate(str(ROOT / 'package.xml'))
    for spoiled in ('<version>1.0</version>', '<version>1.0.0</version><name>twice</name>'):
        text = re.sub(r'<version>.*</version>', spoiled, (ROOT / 'package.xml').read_text())
        assert not schema.is_valid(ElementTree.fromstring(text))


def test_manifest_and_setup_agree():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    version = re.search(r"'(.+)'", (ROOT / 'aprloc_ros/__init__.py').read_text()).group(1)
    assert package.findtext('version') == version
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    assert config['develop']['script_dir'] == config['install']['install_scripts'] == '$base/lib/aprloc_ros'


def test_every_ros_package_that_is_imported_is_in_the_manifest():
    from test_architecture import MODULES, ROS, imports
    listed = {dependency.text for dependency in ElementTree.parse(ROOT / 'package.xml').getroot().iter('exec_depend')}
    used = {name.split('.')[0] for tree in MODULES.values() for name in imports(tree)} & ROS
    keys = {'tf2_ros': 'tf2_ros_py'}   # where the module has another name than its package
    assert {keys.get(name, name) for name in used} <= listed


def test_the_constraints_pin_exact_versions_of_every_direct_dependency():
    lines = [line for line in (ROOT / 'constraints.txt').read_text().splitlines() if not line.startswith('#')]
    pattern = re.compile(r'([a-z0-9-]+)==[0-9][A-Za-z0-9.]*( ; python_version >= "3\.\d+")?')
    matches = [pattern.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches) if not match]
    pinned = {match.group(1) for match in matches}
    setup = (ROOT / 'setup.py').read_text()
    quoted = re.findall(r"'([A-Za-z0-9_-]+)(?:\[\w+\])?(?:[<>][\d.,<>=]+)?'",
                        setup[setup.index('ROS_WHEELS ='):setup.index('def share')]
                        + setup[setup.index('install_requires'):setup.index('entry_points')])
    needed = {name.lower().replace('_', '-') for name in quoted} - {'ros', 'eval', 'train', 'pretrained', 'test'}
    assert len(needed) > 20 and needed <= pinned, needed - pinned


def copy_sources(directory):
    """What an installation needs, to a new directory, which is returned."""
    directory.mkdir(parents=True)
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, directory / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(path, directory / name)
    return directory


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Prefix of an installation as colcon makes it, of a copy of the sources."""
    pytest.importorskip('setuptools')
    source, prefix = copy_sources(tmp_path_factory.mktemp('sources') / 'aprloc_ros'), tmp_path_factory.mktemp('prefix')
    environment = {**os.environ, 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, 'setup.py', '-q', 'install', '--prefix', str(prefix), '--record', str(source / 'record'),
               '--single-version-externally-managed', '--no-compile']
    result = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return prefix


def site_packages(prefix):
    return next(path.parent for path in prefix.rglob('aprloc_ros') if (path / '__init__.py').is_file())


def test_no_generic_name_is_installed(installed):
    names = {path.name for path in site_packages(installed).iterdir() if path.suffix != '.egg-info'}
    assert names == {'aprloc_ros'}
    sources = {path.relative_to(ROOT / 'training') for path in (ROOT / 'training').rglob('*.py')}
    target = site_packages(installed) / 'aprloc_ros/training'
    assert sources == {path.relative_to(target) for path in target.rglob('*.py')}


def test_share_and_the_ament_index(installed):
    share = installed / 'share/aprloc_ros'
    assert (installed / 'share/ament_index/resource_index/packages/aprloc_ros').is_file()
    for name in ('package.xml', 'launch/relocalize.launch.py', 'launch/replay.launch.py', 'config/relocalize.yaml',
                 'config/relocalize.rviz', 'config/foxglove.json', 'config/sros2/policy.xml'):
        assert (share / name).read_bytes() == (ROOT / name).read_bytes()
    for name in json.loads((ROOT / 'colcon.pkg').read_text())['hooks']:
        assert (installed / name).is_file()
    for path in (ROOT / 'maps').rglob('*.*') if (ROOT / 'maps').is_dir() else ():
        assert (share / path.relative_to(ROOT)).is_file()


def test_the_page_of_the_viewer_is_beside_its_module(installed):
    page = site_packages(installed) / 'aprloc_ros/viewing/view.html'
    assert page.read_bytes() == (ROOT / 'aprloc_ros/viewing/view.html').read_bytes()


def run_installed(installed, *command):
    """Run with the installation on the path and nothing of the sources."""
    environment = {**os.environ, 'PYTHONPATH': str(site_packages(installed)),
                   'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=300,
                          check=False)


def test_training_is_part_of_the_package(installed):
    result = run_installed(installed, sys.executable, '-c', 'import aprloc_ros.training.datasets as d; print(d.__file__)')
    assert result.stdout.strip().startswith(str(installed)), result.stderr
    assert run_installed(installed, sys.executable, '-c', 'import training').returncode == 1


def test_the_executable_of_ros2_run_is_there_and_runs(installed):
    executable = installed / 'lib/aprloc_ros/relocalize'
    assert os.access(executable, os.X_OK)
    pytest.importorskip('rclpy', reason='ROS is not installed')
    result = run_installed(installed, str(executable), '--ros-args', '-p', 'diagnostics_period_s:=often')
    assert result.returncode == 1 and result.stderr.startswith('aprloc: error: relocalize: ')


def test_without_ros_the_executable_says_so(installed):
    program = 'import sys; sys.modules["rclpy"] = None; from aprloc_ros.relocalize import main; sys.exit(main())'
    result = run_installed(installed, sys.executable, '-c', program)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    assert 'rclpy is missing; source your ROS distribution' in result.stderr
