"""Where maps are found and what is listed of them, without torch: `ros2 launch` keeps what it imports as long as it runs."""

import re
import subprocess
import sys

import pytest
from repository import ROOT
from tiny_map import save_tiny_map

from aprloc_ros.catalogue import describe_atlas, describe_map, find_map, list_maps, maps_table, search_path
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import read_manifest

LAUNCH = ROOT / 'launch'


def test_the_first_place_on_the_search_path_wins(tmp_path, monkeypatch):
    for place in ('first', 'second', 'prefix/share/aprloc_ros/maps', 'home/.ros/aprloc/maps'):
        save_tiny_map(tmp_path / place / 'tiny')
    save_tiny_map(tmp_path / 'second/other')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    monkeypatch.delenv('APRLOC_MAP_PATH', raising=False)
    assert find_map('tiny') == tmp_path / 'home/.ros/aprloc/maps/tiny'
    monkeypatch.setenv('APRLOC_MAP_PATH', f'{tmp_path}/nowhere:{tmp_path}/second')
    assert find_map('tiny') == tmp_path / 'second/tiny'
    assert find_map('tiny', tmp_path / 'first') == tmp_path / 'first/tiny'
    assert find_map('other', tmp_path / 'first') == tmp_path / 'second/other'
    assert list_maps(tmp_path / 'first')['tiny'] == tmp_path / 'first/tiny'
    assert search_path()[3] == tmp_path / 'prefix/share/aprloc_ros/maps'


@pytest.mark.parametrize('name, hint', [
    ('garage', 'aprloc build garage --data PATH'),
    ('kings', 'the scene KingsCollege of the Cambridge Landmarks dataset'),
    ('redkitchen', 'the scene redkitchen of the 7-Scenes dataset')])
def test_a_map_that_is_nowhere_says_how_to_build_it(tmp_path, monkeypatch, name, hint):
    monkeypatch.setenv('HOME', str(tmp_path))
    with pytest.raises(AprlocError) as caught:
        find_map(name, tmp_path)
    assert hint in str(caught.value) and str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['../tiny', '', '.hidden', 'a/b', 'a' * 65, '-rf', 'tiny\n'])
def test_a_name_that_could_leave_the_directory_is_refused(tmp_path, name):
    with pytest.raises(AprlocError, match='is not allowed'):
        find_map(name, tmp_path)


def test_a_mistyped_map_is_guessed_and_the_others_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    for name in ('kitchen', 'garage', *(f'room{index:02d}' for index in range(20))):
        save_tiny_map(tmp_path / 'maps' / name)
    with pytest.raises(AprlocError, match=r'no map ktichen in .*; did you mean kitchen\? there are: .*garage.* \.\.\.; build'):
        find_map('ktichen', tmp_path / 'maps')
    with pytest.raises(AprlocError, match='did you mean demo'):
        find_map('dmeo')
    with pytest.raises(AprlocError) as caught:
        find_map('somewhere', tmp_path / 'maps')
    assert 'did you mean' not in str(caught.value) and 'there are: ' in str(caught.value)


def test_a_map_says_with_units_what_its_manifest_says(tiny_map):
    manifest, facts = read_manifest(tiny_map / 'map.yaml'), describe_map(tiny_map)
    accuracy = manifest.accuracy
    assert (facts['preset'], facts['field']) == (manifest.build.preset, manifest.field.kind)
    assert facts['median error'] == f'{accuracy["median_m"]:.3f} m, {accuracy["median_deg"]:.2f} deg'
    size_mb = sum(path.stat().st_size for path in tiny_map.iterdir()) / 1e6
    assert facts['size'] == f'{size_mb:.1f} MB'


def test_the_table_of_maps_has_a_row_each_and_what_is_broken_below(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    save_tiny_map(tmp_path / 'maps/kitchen')
    save_tiny_map(tmp_path / 'maps/worn')
    (tmp_path / 'maps/worn/map.yaml').write_text('schema: 1\n')
    header, *rows, last = maps_table(tmp_path / 'maps').splitlines()
    assert header.split()[0] == 'map' and 'median error' in header and {row.split()[0] for row in rows} >= {'kitchen', 'demo'}
    assert len({len(line) for line in (header, *rows)}) == 1   # columns stand below each other
    assert last.startswith(f'worn is BROKEN: {tmp_path}/maps/worn/map.yaml: ')


ATLAS_YAML = '''
name: home
network: {kind: ms_transformer, arguments: {scenes: 2}, sha256: '0'}
places:
- {map: kitchen, content_hash: '1', accuracy: {chosen: 1.0, median_m: 0.2, median_deg: 5.0, frames: 12.0}}
- {map: cellar, content_hash: '2', accuracy: {chosen: 0.9, median_m: 0.1, median_deg: 4.0, frames: 30.0}}
'''


def write_atlas(directory, text=ATLAS_YAML):
    directory.mkdir()
    (directory / 'atlas.yaml').write_text(text)
    (directory / 'network.safetensors').write_bytes(bytes(2_500_000))
    return directory


def test_an_atlas_is_a_row_that_names_its_maps(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    save_tiny_map(tmp_path / 'kitchen')
    write_atlas(tmp_path / 'home')
    write_atlas(tmp_path / 'torn', 'name: torn\nplaces: 3\n')
    rows = {line.split()[0]: line for line in maps_table(tmp_path).splitlines()}
    assert 'kitchen' in rows and re.search('-  +-  +42 images  +2.5 MB  +atlas  +of kitchen, cellar  ', rows['home'])
    assert rows['home'].endswith(str(tmp_path / 'home')) and rows['torn'].startswith('torn is BROKEN: ')


@pytest.mark.parametrize('text', ['', '- 1', 'places: 3', 'places: [3]', 'places: [{map: a}]', 'places: [{map: a, accuracy: {frames: many}}]', '{'])
def test_a_broken_atlas_is_a_line_that_says_so(tmp_path, text):
    with pytest.raises(AprlocError, match='make it again with aprloc atlas'):
        describe_atlas(write_atlas(tmp_path / 'home', text))


@pytest.mark.parametrize('content, says', [
    (b'', 'does not say what it is'), (b'- 1\n', 'does not say'), (b'build: {preset: small}\n', 'does not say'),
    (b'accuracy: {median_m: soon}\nbuild: {preset: a}\nfield: {kind: b}\n', 'does not say'),
    (b'accuracy: [1]\nbuild: {preset: a}\nfield: {kind: b}\n', 'does not say'),
    (b'a: &a [1]\nb: *a\n', 'aliases are not allowed'), (b'{', 'not readable YAML'), (b'\xff\xfe\xff', 'not readable YAML'),
    (b'#' * 300_000, 'larger than'), (b'[' * 5000, 'not readable YAML')])
def test_a_broken_map_is_a_line_that_says_so(tmp_path, content, says):
    (tmp_path / 'map.yaml').write_bytes(content)
    with pytest.raises(AprlocError) as caught:
        describe_map(tmp_path)
    line = str(caught.value)
    assert line.startswith(f'{tmp_path}/map.yaml: ') and says in line and '\n' not in line
    assert line.endswith('rebuild the map with aprloc build')


# What the launch files import and call, and what the command line does before it needs a network.
@pytest.mark.parametrize('program', [
    f'''
import ast, pathlib
for path in pathlib.Path({str(LAUNCH)!r}).glob('*.py'):
    tree = ast.parse(path.read_text())
    ours = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith('aprloc_ros')]
    assert ours
    exec(compile(ast.Module(ours, []), str(path), 'exec'))
    assert find_map('tiny')''',
    'from aprloc_ros.cli import main; assert main(["maps"]) == 0',
    '''
from aprloc_ros.cli import main
try: main(["--help"])
except SystemExit as end: assert end.code == 0'''], ids=['launch', 'maps', 'help'])
def test_maps_are_found_and_listed_without_torch(tiny_map, tmp_path, monkeypatch, program):
    monkeypatch.setenv('APRLOC_MAP_PATH', f'{tiny_map.parent}:{write_atlas(tmp_path / "home").parent}')
    heavy = 'import sys; heavy = {"torch", "numpy", "cv2", "safetensors", "rclpy"} & set(sys.modules); assert not heavy, heavy'
    run = subprocess.run([sys.executable, '-c', f'{program}\n{heavy}'], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
