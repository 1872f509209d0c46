"""`aprloc adapt`: what a drive must be, what becomes of the map, and that nothing is lost."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny_capture import TRAIN, write_wall
from tiny_map import save_tiny_map, tiny_manifest

from aprloc_ros.camera import Camera
from aprloc_ros.cli import main
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.map_bundle import FIELD_FILE, REGRESSOR_FILE, load_map
from aprloc_ros.moved_map import move_map
from aprloc_ros.scoring.evaluation import make_record
from aprloc_ros.similarity import Similarity
from aprloc_ros.training import adapt_map as adapting
from aprloc_ros.training import later_drive
from aprloc_ros.training.adapt_map import adapt_map
from aprloc_ros.training.adapting import drive
from aprloc_ros.training.adapting.exam import exam_split
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.images.views import load_views
from aprloc_ros.training.posing.lenses import of_the_map
from aprloc_ros.training.posing.sources.shots import Optics, Shot
from aprloc_ros.training.stages.adaptation import METHODS, AdaptationTraining
from aprloc_ros.training.stages.regressor import predict_poses

pytestmark = pytest.mark.usefixtures('one_thread')
QUICK = AdaptationTraining(steps=36, batch=6, learning_rate=3e-3, short_side=12)


@pytest.fixture(scope='module')
def wall(tmp_path_factory):
    return write_wall(tmp_path_factory.mktemp('captures') / 'wall')


@pytest.fixture
def images(wall, tmp_path):
    """The wall's training images, without their poses."""
    return shutil.copytree(wall / 'train', tmp_path / 'drive', ignore=shutil.ignore_patterns('*_depth.png'))


@pytest.fixture
def directory(tmp_path):
    return save_tiny_map(tmp_path / 'maps' / 'tiny')


class Oracle:
    """A localizer that knows the truth of the wall's images in their order, and believes it where it is told to."""

    asked, refiner_name = 0, 'nre'

    def __init__(self, poses, status='refined'):
        self.poses, self.status = poses, status

    def __call__(self, bundle, device):
        return self

    def localize(self, image, camera):
        # In the order of the drive, wherever an interrupted run goes on.
        pose = self.poses[self.asked % len(self.poses)]
        self.asked += 1
        return SimpleNamespace(T_map_cam=pose, status=self.status)


@pytest.fixture
def oracle(wall, monkeypatch):
    found = Oracle([frame.T_map_cam for frame in read_capture(wall).train])
    monkeypatch.setattr(drive, 'Localizer', found)
    monkeypatch.setattr(adapting, 'METHODS', dict.fromkeys(METHODS, QUICK))
    return found


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_fifth_of_the_drive_examines_in_stretches_that_have_a_guard():
    teach, exam = exam_split(100)
    assert exam.tolist() == [*range(10, 15), *range(35, 40), *range(60, 65), *range(85, 90)]
    assert len(teach) == 64 and (teach[:, None] - exam).abs().min() == 3
    teach, exam = exam_split(8)
    assert exam.tolist() == [2, 7] and teach.tolist() == [0, 4, 5]


def test_the_believed_answers_teach_and_the_map_says_so(directory, images, oracle, wall):
    before, files = load_map(directory, 'cpu'), contents(directory)
    adapt_map(directory, images, device='cpu')
    after = load_map(directory, 'cpu')
    lesson, = after.manifest.lessons
    assert (lesson.method, lesson.data, lesson.images, lesson.believed) == ('pseudo', 'drive', TRAIN, TRAIN)
    assert (lesson.exam, lesson.exam_images) == ('believed answers', 5) and lesson.after_m < lesson.before_m
    unseen = load_views(read_capture(wall).test, after.manifest.camera)
    off = [(predict_poses(b.regressor, unseen.images, b.manifest.scene, torch.device('cpu'))[:, :3, 3]
            - unseen.T_map_cam[:, :3, 3]).norm(dim=1).median() for b in (before, after)]
    assert off[1] < 0.8 * off[0]
    # Only the regressor and what is said of it changed; nothing is left beside the map.
    assert {name for name, content in contents(directory).items() if content != files[name]} == {'map.yaml', REGRESSOR_FILE}
    assert [path.name for path in directory.parent.iterdir()] == ['tiny']
    assert not torch.equal(after.manifest.covariance, before.manifest.covariance)
    assert (torch.linalg.eigvalsh(after.manifest.covariance) > 0).all()


def test_a_second_lesson_stands_beside_the_first(directory, images, oracle):
    adapt_map(directory, images, device='cpu')
    adapt_map(directory, images, check=None, seed=1, device='cpu')
    assert len(load_map(directory, 'cpu').manifest.lessons) == 2


def test_frames_with_poses_decide_where_they_are_given(directory, images, oracle, wall):
    adapt_map(directory, images, check=wall, device='cpu')
    lesson, = load_map(directory, 'cpu').manifest.lessons
    assert lesson.exam == 'check' and lesson.exam_images > 5


def test_poses_in_another_frame_decide_nothing(directory, images, oracle, wall, monkeypatch):
    def contradicted(localizer, frames):
        return [make_record(frame.name, 0.0, frame.T_map_cam, se3_exp(torch.full((6,), 0.1 * index, dtype=torch.float64)), 1.0, 'refined',
                            torch.eye(6).double(), 1.0) for index, frame in enumerate(frames)]
    monkeypatch.setattr(later_drive, 'evaluate_map', contradicted)
    files = contents(directory)
    with pytest.raises(AprlocError, match='--check .*wall: drive: .* are far from the poses of the drive.*frame of the map'):
        adapt_map(directory, images, check=wall, device='cpu')
    assert contents(directory) == files


def test_images_without_calibration_are_of_the_lens_that_took_the_maps_drive():
    lens = Camera(64, 48, 50.0, 50.0, 31.5, 23.5, 'opencv', (0.2, 0.0, 0.0, 0.0))
    manifest = replace(tiny_manifest(), taken_by=lens)
    shot = Shot('a.png', Optics(128, 96), None)
    assert of_the_map(shot, manifest) == lens.resized(128, 96)
    own = Camera(128, 72, 90.0, 90.0, 63.5, 35.5)
    assert of_the_map(replace(shot, optics=Optics(128, 72, own)), manifest) == own
    cells = replace(manifest, taken_by=None, camera=Camera(432, 240, 364.5, 360.0, 215.5, 119.5))   # whole cells of a network
    assert of_the_map(replace(shot, optics=Optics(1920, 1080)), cells).width == 1920
    with pytest.raises(AprlocError, match='a.png: the image is 96x128, not of the aspect of the map'):
        of_the_map(replace(shot, optics=Optics(96, 128)), manifest)


def test_another_place_leaves_the_map_as_it_was(directory, images, oracle):
    oracle.status, files = 'rejected', contents(directory)
    with pytest.raises(AprlocError, match=f'only 0 of {TRAIN} images: are they of its place'):
        adapt_map(directory, images, device='cpu')
    assert contents(directory) == files and [path.name for path in directory.parent.iterdir()] == ['tiny']


def test_a_regressor_that_is_not_better_is_refused(directory, images, oracle, monkeypatch):
    monkeypatch.setattr(adapting, 'adapt_regressor', lambda fabric, regressor, *rest: regressor)
    files, said = contents(directory), []
    with pytest.raises(AprlocError, match='pseudo: the taught regressor is not better; the map tiny stays as it was'):
        adapt_map(directory, images, device='cpu', say=said.append)
    assert contents(directory) == files and 'before' in said[-1]


def interrupt(monkeypatch, directory, images):
    """An adaptation, when it begins to train."""
    def interrupted(*arguments):
        raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(adapting, 'adapt_regressor', interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt_map(directory, images, device='cpu')


def test_an_interrupted_adaptation_goes_on(directory, images, oracle, monkeypatch):
    files, said = contents(directory), []
    interrupt(monkeypatch, directory, images)
    assert contents(directory) == files and oracle.asked == TRAIN
    adapt_map(directory, images, device='cpu', say=said.append)
    assert 'continuing the interrupted run' in said[0] and oracle.asked == TRAIN and load_map(directory, 'cpu').manifest.lessons


def test_a_map_that_was_moved_meanwhile_is_asked_again(directory, images, oracle, monkeypatch):
    """The answers of the interrupted run are in a frame that the map has left."""
    interrupt(monkeypatch, directory, images)
    move_map(directory, Similarity(1.0, torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), 0.0, ''))
    said = []
    adapt_map(directory, images, device='cpu', say=said.append)
    assert oracle.asked == 2 * TRAIN and not any('continuing' in line for line in said)


def test_colours_teach_too(directory, images, oracle, monkeypatch):
    """A field of random weights teaches nothing: the regressor is refused, by that method's name."""
    with pytest.raises(AprlocError, match='photometric: the taught regressor is not better'):
        adapt_map(directory, images, 'photometric', device='cpu')


def test_features_need_some(directory, images, oracle):
    with pytest.raises(AprlocError, match='has no features to match; use --method photometric or pseudo'):
        adapt_map(directory, images, 'feature', device='cpu')


def test_a_map_that_is_but_its_regressor_cannot_teach_itself(directory, images):
    with pytest.raises(AprlocError, match='tiny has no refiner whose answers could be believed'):
        adapt_map(directory, images, device='cpu')
    assert [path.name for path in directory.parent.iterdir()] == ['tiny']


def test_a_map_without_its_field_says_so(directory, images):
    (directory / FIELD_FILE).unlink()
    with pytest.raises(AprlocError, match='field.safetensors: No such file.*rebuild the map'):
        adapt_map(directory, images, device='cpu')


@pytest.mark.parametrize('what, message', [
    ('empty', 'no image in this folder'), ('few', '7 images that differ; at least 8'), ('grey', 'show next to nothing'),
    ('missing', 'no such file or folder'), ('portrait', 'not of the aspect of the map')])
def test_what_is_no_drive_is_an_error_of_one_line(directory, images, capsys, what, message):
    files = sorted(images.iterdir())
    for index, file in enumerate(files):
        if what == 'empty' or what == 'few' and index >= 7:
            file.unlink()
        elif what == 'grey':
            cv2.imwrite(str(file), np.full((36, 48, 3), 130, np.uint8))
        elif what == 'portrait':
            cv2.imwrite(str(file), np.rot90(cv2.imread(str(file))))
    data = images / 'not' if what == 'missing' else images
    before = contents(directory)
    assert main(['adapt', 'tiny', '--data', str(data), '--map-dir', str(directory.parent), '--device', 'cpu']) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('aprloc: error: ') and message in error
    assert contents(directory) == before and [path.name for path in directory.parent.iterdir()] == ['tiny']
