"""The command line: its output, and one clear line with a non-zero exit for every mistake."""

import re
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
from tiny_map import CAMERA, save_tiny_map

from aprloc_ros import __version__
from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.command_line import using
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """A directory with the map `tiny`, the only one on the search path but for the package's own."""
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('APRLOC_MAP_PATH', str(tmp_path / 'maps'))
    save_tiny_map(tmp_path / 'maps' / 'tiny')
    return tmp_path / 'maps'


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'query.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8))
    return path


def complaint(capsys, arguments):
    """The one line that a mistake prints, without its prefix."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('aprloc: error: ') and captured.err.count('\n') == 1, captured.err
    return captured.err.removeprefix('aprloc: error: ')


def test_localize_prints_the_localizers_answer(maps, image, capsys):
    assert main(['localize', str(image), '--map', 'tiny', '--device', 'cpu']) == 0
    lines = {line[:16].strip(): line[16:].split() for line in capsys.readouterr().out.splitlines()}
    estimate = Localizer(load_map(maps / 'tiny', 'cpu'), 'cpu').localize(cv2.imread(str(image))[..., ::-1])
    np.testing.assert_allclose([float(v) for v in lines['position'][:3]], estimate.T_map_cam[:3, 3], atol=6e-5)
    std = estimate.covariance.diagonal().sqrt()
    np.testing.assert_allclose([float(v) for v in lines['std of position'][:3]], std[:3], atol=6e-5)
    np.testing.assert_allclose([float(v) for v in lines['std of rotation'][:3]], std[3:].rad2deg(), atol=6e-5)


def test_a_photo_that_its_exif_turns_is_told_where_it_gets_no_pose(maps, image, tmp_path, capsys):
    """The orientation 6 in a JPEG's APP1: a quarter clockwise."""
    exif = b'Exif\0\0' + b'MM\0*\0\0\0\x08' + b'\0\x01' + b'\x01\x12\0\x03\0\0\0\x01\0\x06\0\0' + b'\0\0\0\0'
    for pixels, words in ((cv2.imread(str(image)).transpose(1, 0, 2), 'its EXIF asks viewers to turn it'), (cv2.imread(str(image)), '')):
        data = cv2.imencode('.jpg', pixels)[1].tobytes()
        (tmp_path / 'photo.jpg').write_bytes(data[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + data[2:])
        if words:
            assert words in complaint(capsys, ['localize', tmp_path / 'photo.jpg', '--map', 'tiny'])
        else:
            assert main(['localize', str(tmp_path / 'photo.jpg'), '--map', 'tiny']) == 0 and 'EXIF' not in capsys.readouterr().out


def test_the_given_camera_is_used(maps, image, monkeypatch):
    cameras = []
    localize = Localizer.localize
    monkeypatch.setattr(Localizer, 'localize', lambda self, pixels, camera: cameras.append(camera) or localize(
        self, pixels, camera))
    assert main(['localize', str(image), '--map', 'tiny', '--camera', '90,91.5,30,20']) == 0
    assert cameras == [Camera(CAMERA.width, CAMERA.height, 90, 91.5, 30, 20)]


def test_maps_lists_good_and_broken_ones(maps, capsys):
    save_tiny_map(maps / 'worn')
    (maps / 'worn/map.yaml').write_text('schema: 1\n')
    assert main(['maps']) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert all(word in lines['tiny'] for word in ('MB', 'small', 'nerf', '0.100 m', str(maps / 'tiny')))
    assert 'BROKEN' in lines['worn']


def test_evaluate_poses_scores_each_array(tmp_path, capsys):
    truth = np.tile(np.eye(4)[:3], (6, 1, 1))
    moved = truth + 0
    moved[:, 0, 3] += 0.2
    np.savez(tmp_path / 'poses.npz', truth=truth, perfect=truth, moved=moved)
    assert main(['evaluate', '--poses', str(tmp_path / 'poses.npz')]) == 0
    medians, table = capsys.readouterr().out.split('\n\n')
    rows = {line.split()[0]: line for line in table.splitlines()}
    assert 'moved' in medians and '0.20/0.00' in medians
    assert '0.200 m' in rows['moved'] and '0.000 m' in rows['perfect'] and rows['perfect'].endswith('100.0%')


@pytest.mark.parametrize('arguments, says', [
    (['localize', '{image}', '--map', 'nowhere'], 'no map nowhere in .*aprloc build nowhere'),
    (['localize', '{image}', '--map', '../../etc'], 'map name .* is not allowed'),
    (['localize', '{tmp}/missing.png', '--map', 'tiny'], 'missing.png: missing or not a readable image'),
    (['localize', '{tmp}/text.png', '--map', 'tiny'], 'text.png: missing or not a readable image'),
    (['localize', '{image}', '--map', 'tiny', '--camera', '1,2,3'], "--camera '1,2,3' must be four numbers"),
    (['localize', '{image}', '--map', 'tiny', '--camera', 'a,b,c,d'], 'must be four numbers'),
    (['localize', '{image}', '--map', 'tiny', '--camera', '0,5,1,1'], 'positive focal lengths'),
    (['localize', '{image}', '--map', 'tiny', '--camera', 'nan,5,1,1'], 'must be finite'),
    (['localize', '{image}', '--map', 'tiny', '--device', 'tpu'], "device is 'tpu'"),
    (['evaluate', 'tiny'], 'needs a map NAME and --data PATH'),
    (['evaluate', 'tiny', '--data', '{tmp}/nowhere'], 'nowhere'),
    (['evaluate', '--poses', '{tmp}/missing.npz'], 'missing or not an npz'),
    (['evaluate', '--poses', '{tmp}/text.png'], 'missing or not an npz'),
    (['evaluate', '--poses', '{tmp}/empty.npz'], 'must hold an array named truth'),
    (['bag', '--data', '{tmp}/nowhere', '--out', '{tmp}/bag'], 'nowhere'),
    (['play', '{tmp}/nowhere', '--map', 'tiny'], 'nowhere does not exist; write one with: aprloc bag'),
    (['replay', '{tmp}/nowhere', '--map', 'tiny'], 'no such bag'),
    (['replay', '{tmp}/text.png', '--map', 'tiny'], 'not a readable bag'),
    (['replay', '{tmp}/nowhere', '--map', 'nowhere'], 'no map nowhere'),
    (['play', '{tmp}/nowhere', '--map', 'nowhere'], 'nowhere does not exist; write one with: aprloc bag'),
    (['demo', '--map', 'nowhere'], 'no map nowhere'),
    (['build', 'x', '--data', '{tmp}/nowhere', '--map-dir', '{tmp}/built'], 'nowhere'),
    (['localize', '{image}', '--map', 'tinny'], r'no map tinny .*did you mean tiny\?'),
    (['localize', '{tmp}/tall.png', '--map', 'tiny'], '--camera fx,fy,cx,cy'),
    (['view', 'tiny', '--replay', '{tmp}/nowhere'], 'nowhere: there is no such report, .*aprloc replay BAG --map NAME --out'),
    (['view', 'tiny', '--out', '{tmp}'], 'is a folder; name a file'),
    (['view', 'tiny', '--out', '{tmp}/text.png/page.html'], 'text.png is a file; name a folder'),
    (['replay', '{tmp}/nowhere', '--map', 'tiny', '--out', '{tmp}/text.png'], 'text.png is a file; name a folder'),
    (['demo', '--map', 'tiny', '--report', '{tmp}/text.png'], 'text.png is a file; name a folder'),
    (['play', '{tmp}/nowhere', '--map', 'tiny', '--report', '{tmp}/text.png/in'], 'text.png is a file; name a folder'),
    (['evaluate', 'tiny', '--data', '{tmp}', '--report', '{tmp}/text.png'], 'text.png is a file; name a folder'),
    (['place', '{tmp}/text.png'], 'text.png: cannot write the demo place there'),
    (['replay', '{tmp}', '--map', 'tiny'], 'images, not a bag; .*aprloc localize IMAGE --map NAME.*aprloc evaluate'),
    (['replay', '{tmp}/drive.MOV', '--map', 'tiny'], 'a video, not a bag; aprloc pose {tmp}/drive.MOV --out CAPTURE'),
    (['evaluate', 'tiny', '--data', '{tmp}'], 'images or a video without poses get them by: aprloc pose {tmp} --out CAPTURE'),
    (['calibrate', 'tiny', '--data', '{tmp}/drive.MOV'], 'without poses get them by: aprloc pose .*drive.MOV --out CAPTURE')])
def test_mistakes_get_one_line(maps, image, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'text.png').write_text('not a picture')
    np.savez(tmp_path / 'empty.npz', other=np.zeros(3))
    (tmp_path / 'drive.MOV').write_bytes(bytes(100))
    cv2.imwrite(str(tmp_path / 'tall.png'), np.zeros((90, 30, 3), np.uint8))
    filled = [argument.format(image=image, tmp=tmp_path) for argument in arguments]
    assert re.search(says.replace('{tmp}', str(tmp_path)), complaint(capsys, filled))


def test_an_image_that_is_not_there_is_one_line_without_a_word_of_opencv(maps, tmp_path):
    run = subprocess.run([sys.executable, '-m', 'aprloc_ros.cli', 'localize', str(tmp_path / 'nowhere.png'), '--map', 'tiny'],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 1 and run.stdout == ''
    assert run.stderr == (f'aprloc: error: {tmp_path}/nowhere.png: missing or not a readable image '
                          '(No such file or directory)\n')


@pytest.mark.parametrize('damage', [b'', b'not safetensors', None])
def test_a_corrupt_map_is_named(maps, image, capsys, damage):
    path = maps / 'tiny/regressor.safetensors'
    path.unlink() if damage is None else path.write_bytes(damage)
    text = complaint(capsys, ['localize', image, '--map', 'tiny'])
    assert str(path) in text and 'rebuild' in text


def test_a_nan_in_an_npz_is_named(tmp_path, capsys):
    truth = np.tile(np.eye(4), (3, 1, 1))
    np.savez(tmp_path / 'poses.npz', truth=truth, bad=truth * np.array([1, np.nan, 1])[:, None, None])
    text = complaint(capsys, ['evaluate', '--poses', tmp_path / 'poses.npz'])
    assert 'poses.npz: estimates: pose 1 of 3 holds NaN' in text


@pytest.mark.parametrize('arguments', [[], ['fly'], ['localize'], ['build', 'x'], ['demo', '--rate', 'fast'],
                                       ['demo', '--rate', '0'], ['replay', 'bag'], ['play', 'bag', '--map', 'x', '--rate', 'nan'],
                                       ['build', 'x', '--data', 'y', '--preset', 'huge']])
def test_misspelt_commands_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and 'usage: aprloc' in capsys.readouterr().err


def test_version_and_help_come_without_torch():
    code = ('import sys; from aprloc_ros.cli import main\n'
            'try: main(sys.argv[1:])\nfinally: assert "torch" not in sys.modules')
    version = subprocess.run([sys.executable, '-c', code, '--version'], capture_output=True, text=True, check=True)
    assert version.stdout == f'aprloc {__version__}\n'
    helped = subprocess.run([sys.executable, '-c', code, '--help'], capture_output=True, text=True, check=True)
    for command in ('demo', 'build', 'calibrate', 'adapt', 'localize', 'evaluate', 'bag', 'play', 'replay', 'maps', 'benchmark', 'place'):
        assert command in helped.stdout


def test_build_passes_its_options_on(monkeypatch, tmp_path):
    calls = []
    stub = types.SimpleNamespace(build=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, 'aprloc_ros.training.build_map', stub)
    assert main(['build', 'court', '--data', str(tmp_path), '--preset', 'paper', '--seed', '3',
                 '--imagenet', 'imagenet', '--until', 'field']) == 0
    assert calls == [{'name': 'court', 'data': [tmp_path], 'preset': 'paper', 'map_dir': None, 'config': None,
                      'device': 'auto', 'seed': 3, 'imagenet': 'imagenet', 'until': 'field'}]


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(using, 'maps', interrupted)
    assert main(['maps']) == 130
    assert capsys.readouterr().err == 'aprloc: interrupted\n'


def test_a_missing_extra_is_named(monkeypatch, capsys, tmp_path):
    for name in ('bags', 'bag_messages', 'recording'):
        monkeypatch.delitem(sys.modules, f'aprloc_ros.recordings.{name}', raising=False)
    monkeypatch.setitem(sys.modules, 'rosbags.rosbag2', None)
    text = complaint(capsys, ['bag', '--data', tmp_path, '--out', tmp_path / 'bag'])
    assert 'the module rosbags.rosbag2 is missing; install aprloc_ros with its extras' in text


def test_a_report_that_cannot_be_written_is_named(maps, monkeypatch, capsys, tmp_path):
    def denied(options):
        (tmp_path / 'file').write_text('')
        (tmp_path / 'file' / 'report').mkdir()

    monkeypatch.setattr(using, 'maps', denied)
    assert complaint(capsys, ['maps']) == f'{tmp_path}/file/report: Not a directory\n'
