"""An atlas: which of several maps an image is of, by one network, and what it says of the pose there."""

import shutil
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from tiny_capture import TEST, write_wall
from tiny_map import save_tiny_map, tiny_manifest, tiny_models

from aprloc_ros.atlas import load_atlas
from aprloc_ros.catalogue import ATLAS, FILE_NAME, find_atlas, find_map
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import read_manifest
from aprloc_ros.map_bundle import check_target, load_map, save_manifest, save_map
from aprloc_ros.networks import to_T
from aprloc_ros.networks.efficientnet import EfficientNetLite0
from aprloc_ros.networks.ms_transformer import MSTransformer
from aprloc_ros.training.benchmarks import atlas as benchmark_atlas
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.make_atlas import make_atlas
from aprloc_ros.training.request import content_hash
from aprloc_ros.training.stages import scenes
from aprloc_ros.training.stages.scenes import Looks, SceneLoss, SceneTraining

pytestmark = pytest.mark.usefixtures('one_thread')
QUICK = SceneTraining(arguments={'width': 16, 'layers': 1, 'heads': 2, 'side': 48}, looks=48, batch=4, steps=100, learning_rate=5e-3,
                      turn_deg=0.0, colour_jitter=0.0)
NAMES = ('bright', 'dark')


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """Folder of two maps, and the captures that built them: a wall, and the same wall in blue dusk, upside down."""
    root = tmp_path_factory.mktemp('places')
    captures = {name: write_wall(root / 'captures' / name, with_depth=False) for name in NAMES}
    for path in captures['dark'].glob('*/*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path))[::-1] // (2, 6, 6))
    for name, path in captures.items():
        manifest = tiny_manifest(name)
        data = replace(manifest.data, content_hash=content_hash(read_capture(path)))
        save_map(root / 'maps' / name, replace(manifest, data=data), *tiny_models())
    return root / 'maps', captures


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Of a trunk of random filters whose batch normalisations know what they normalise."""
    torch.manual_seed(0)
    trunk = EfficientNetLite0()
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None   # the mean of all batches
    for _ in range(3):
        trunk(2 * torch.rand(8, 3, 32, 32) - 1)
    path = tmp_path_factory.mktemp('weights') / 'trunk.pth'
    torch.save(trunk.state_dict(), path)
    return str(path)


@pytest.fixture(scope='module')
def atlas(places, weights):
    """The folder of an atlas of both, and what was said."""
    maps, captures = places
    said = []
    return make_atlas('both', captures, maps, 'cpu', weights=weights, config=QUICK, say=said.append), said


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MSTransformer(3, width=16, layers=1, heads=2, side=32).eval()


def unseen(path):
    return [frame.read_image() for frame in read_capture(path).test]


def test_every_held_out_image_is_found_in_its_map(places, atlas):
    directory, said = atlas
    found = load_atlas(directory, 'cpu')
    for name, path in places[1].items():
        guesses = [found.which(image) for image in unseen(path)]
        assert [guess[0].map for guess in guesses] == [name] * TEST
        assert all(sum(each.probability for each in guess) == pytest.approx(1, abs=1e-5) for guess in guesses)
        assert guesses[0][0].probability > guesses[0][1].probability
    assert [line.split(':')[0] for line in said] == list(NAMES) and '100.0% of 4 images' in said[0]
    assert [place.accuracy['chosen'] for place in found.manifest.places] == [1.0, 1.0]
    assert not (places[0] / '.both.atlas').exists()


def test_the_shape_of_an_image_does_not_tell(atlas, places):
    """An image squeezed by its camera is the same to the network: a portrait of it is found where it is."""
    found, image = load_atlas(atlas[0], 'cpu'), unseen(places[1]['dark'])[0]
    portrait = cv2.resize(image, (36, 48), interpolation=cv2.INTER_AREA)
    assert found.which(portrait)[0].map == 'dark'


def test_it_learns_poses_too(atlas, places):
    directory, _ = atlas
    bundle = load_map(places[0] / 'bright', 'cpu')
    regressor = load_atlas(directory, 'cpu').regressor(bundle)
    frames = read_capture(places[1]['bright']).train
    images = torch.stack([torch.from_numpy(frame.read_image()).permute(2, 0, 1).float() / 255 for frame in frames])
    with torch.inference_mode():
        T = bundle.manifest.scene.pose_to_map(to_T(regressor(images)))
    truth = torch.stack([frame.T_map_cam for frame in frames])
    off, usual = ((each[:, :3, 3] - truth[:, :3, 3]).norm(dim=1).median() for each in (T, truth.mean(0).expand_as(truth)))
    assert off < 0.6 * usual


def test_the_benchmark_has_a_row_for_every_map(places, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_atlas, 'SceneTraining', lambda: QUICK)
    for name in ('collect_looks', 'train_scenes'):
        monkeypatch.setattr(benchmark_atlas, name, partial(getattr(scenes, name), weights=weights))
    words = [f'{name}={path}' for name, path in places[1].items()]
    assert main(['benchmark', 'atlas', *words, '--map-dir', str(places[0]), '--work', str(tmp_path), '--device', 'cpu']) == 0
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in capsys.readouterr().out.splitlines() if line[:2] == '| ']
    assert [row[0] for row in rows] == ['map', *NAMES]
    # These maps have no gate that could believe anything; the network finds all images.
    assert all(row[1:4] == [str(TEST), '100.0%', '0.0% / 100.0% / 0.0%'] for row in rows[1:])


def test_a_map_that_it_does_not_know_is_an_error(atlas, places):
    bundle = load_map(places[0] / 'bright', 'cpu')
    other = replace(bundle.manifest, data=replace(bundle.manifest.data, content_hash='0'))
    with pytest.raises(AprlocError, match='both does not know the place of bright; make it again with aprloc atlas'):
        load_atlas(atlas[0], 'cpu').regressor(replace(bundle, manifest=other))


def test_localize_names_the_map_and_goes_on_there(atlas, places, capsys):
    for name, path in places[1].items():
        assert main(['localize', str(path / 'test' / '24.png'), '--map', 'both', '--map-dir', str(places[0]), '--device', 'cpu']) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:2] == ['map', f'{name},'] and lines[1].startswith('position') and 'prior' in lines[-1]


def test_an_interrupted_atlas_goes_on_and_ends_alike(places, atlas, weights, tmp_path, monkeypatch):
    shutil.copytree(places[0], tmp_path / 'maps', ignore=shutil.ignore_patterns('both'))
    step, loss = [], scenes.SceneLoss.forward

    def interrupted(*arguments):
        step.append(1)
        if len(step) == 12:
            raise KeyboardInterrupt
        return loss(*arguments)
    monkeypatch.setattr(scenes.SceneLoss, 'forward', interrupted)
    original = scenes.Loop
    monkeypatch.setattr(scenes, 'Loop', lambda *arguments: original(*arguments, checkpoint_every_s=0.5))
    arguments = 'both', places[1], tmp_path / 'maps', 'cpu', 0, weights, QUICK, [].append
    with pytest.raises(KeyboardInterrupt):
        make_atlas(*arguments)
    assert find_atlas('both', tmp_path / 'maps') is None
    again = load_atlas(make_atlas(*arguments), 'cpu')
    assert QUICK.steps < len(step) <= QUICK.steps + 12
    assert again.manifest.network.sha256 == load_atlas(atlas[0], 'cpu').manifest.network.sha256


@pytest.mark.parametrize('words, message', [
    (['bright=CAPTURE'], '1 map given; an atlas is of 2 at least'),
    (['bright=CAPTURE', 'bright=CAPTURE', 'dark=CAPTURE'], 'bright is given more than once; each map once'),
    (['bright', 'dark=CAPTURE'], "'bright' must be MAP=CAPTURE"),
    (['bright=CAPTURE', 'no=CAPTURE'], 'no map no in'),
    (['bright=CAPTURE', 'dark=CAPTURE'], 'the map dark was not built from this capture but from court')])
def test_mistakes_are_one_line(places, capsys, words, message):
    words = [word.replace('CAPTURE', str(places[1]['bright'])) for word in words]
    assert main(['atlas', 'new', *words, '--map-dir', str(places[0]), '--device', 'cpu']) == 1
    assert message in capsys.readouterr().err


def test_a_map_that_is_another_one_now_is_an_error(atlas, places, tmp_path, capsys):
    maps = shutil.copytree(places[0], tmp_path / 'maps')
    for name in NAMES:
        manifest = read_manifest(maps / name / FILE_NAME)
        save_manifest(maps / name, replace(manifest, data=replace(manifest.data, content_hash='0')))
    words = 'localize', str(places[1]['dark'] / 'test' / '24.png'), '--map', 'both', '--map-dir', str(maps), '--device', 'cpu'
    assert main(words) == 1
    assert 'the map dark was built from another capture than the one that the atlas both learned by that name' in capsys.readouterr().err


def test_maps_go_by_the_names_they_were_asked_for_and_differ(places, weights, tmp_path):
    """A copy of a map still says its old name."""
    maps = shutil.copytree(places[0], tmp_path / 'maps')
    (maps / 'bright').rename(maps / 'day')
    captures = {'day': places[1]['bright'], 'dark': places[1]['dark']}
    short = replace(QUICK, steps=1, looks=2)
    directory = make_atlas('two', captures, maps, 'cpu', weights=weights, config=short, say=[].append)
    assert [place.map for place in load_atlas(directory, 'cpu').manifest.places] == ['day', 'dark']
    shutil.copytree(maps / 'day', maps / 'copy')
    with pytest.raises(AprlocError, match='day and copy are of the same images'):
        make_atlas('three', {**captures, 'copy': places[1]['bright']}, maps, 'cpu', weights=weights, config=short, say=[].append)


def test_a_name_stands_for_what_comes_first(atlas, tmp_path, monkeypatch):
    first, second = save_tiny_map(tmp_path / 'first' / 'both').parent, shutil.copytree(atlas[0], tmp_path / 'second' / 'both').parent
    monkeypatch.setenv('APRLOC_MAP_PATH', str(second))
    assert find_atlas('both') == second / 'both' and find_atlas('both', first) is None
    with pytest.raises(AprlocError, match='both is an atlas, which aprloc localize alone takes'):
        find_map('both')
    shutil.copy(atlas[0] / ATLAS.file_name, first / 'both')
    with pytest.raises(AprlocError, match='holds a map and an atlas'):
        find_atlas('both', first)
    with pytest.raises(AprlocError, match='is not a map alone'):
        check_target(first / 'both')


def test_an_atlas_does_not_replace_a_map(places):
    with pytest.raises(AprlocError, match='exists and is not an atlas'):
        make_atlas('dark', places[1], places[0], 'cpu', config=QUICK)


@pytest.mark.parametrize('change, message', [
    (lambda text: text.replace('scenes: 2', 'scenes: 3'), 'must be the number of places, 2'),
    (lambda text: text.replace('ms_transformer', 'vit'), "'vit' is not ms_transformer"),
    (lambda text: text.replace('width: 16', 'width: 17'), 'width 17 must be a multiple of twice the heads'),
    (lambda text: text + 'more: 1\n', 'more'),
    (lambda text: ': [', 'not readable YAML')])
def test_a_damaged_atlas_says_so(atlas, tmp_path, change, message):
    damaged = shutil.copytree(atlas[0], tmp_path / 'both')
    (damaged / ATLAS.file_name).write_text(change((damaged / ATLAS.file_name).read_text()))
    with pytest.raises(AprlocError, match=message) as error:
        load_atlas(damaged, 'cpu')
    assert 'make it again with aprloc atlas' in str(error.value)


def test_what_a_scene_says_depends_on_its_own_question(network):
    """The decoder's questions do see each other; without them equal ones would get equal answers, and others do not."""
    logits, poses = network(torch.rand(2, 3, 40, 60))
    assert logits.shape == (2, 3) and poses.shape == (2, 3, 3, 4)
    assert (poses[:, 0] - poses[:, 1]).abs().min(1).values.max() > 1e-4
    with torch.no_grad():
        for part in (network.orientation, network.position):
            part.questions[1] = part.questions[0]
    poses = network(torch.rand(2, 3, 40, 60))[1]
    torch.testing.assert_close(poses[:, 0], poses[:, 1])


def test_where_in_the_image_things_are_matters(network):
    image, maps = torch.rand(1, 3, 32, 32), (torch.rand(1, 40, 4, 4), torch.rand(1, 112, 2, 2))
    assert (network.answer(*maps)[1] - network.answer(*(each.flip(3) for each in maps))[1]).abs().max() > 1e-3
    torch.testing.assert_close(network.of_scene(2)(image), network(image)[1][:, 2])


def test_the_loss_is_that_of_the_paper():
    """L_x exp(-s_x) + s_x + L_q exp(-s_q) + s_q + cross entropy, in numbers."""
    loss, truth = SceneLoss(), torch.eye(3, 4).expand(2, 3, 4)
    poses = torch.eye(3, 4).repeat(2, 3, 1, 1)
    poses[0, 1, 0, 3], poses[1, 2, 0, 0] = 0.5, 1.2
    logits = torch.zeros(2, 3)
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor([0.3, -0.7]))
    parts = loss(logits, poses, truth, torch.tensor([1, 2]))
    wanted = 0.25 * np.exp(-0.3) + 0.3 + 0.1 * np.exp(0.7) - 0.7 + np.log(3)
    assert parts['total'].item() == pytest.approx(wanted, abs=1e-6)


def test_kept_looks_are_drawn_evenly():
    looks = Looks(torch.arange(4).view(4, 1, 1, 1).half(), torch.zeros(4, 1, 1, 1).half(), torch.zeros(4, 3, 4))
    drawn = looks.draw(4000, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn.fine.flatten().long()).tolist() == pytest.approx([1000] * 4, abs=120)
    assert drawn.fine.dtype == torch.float32
