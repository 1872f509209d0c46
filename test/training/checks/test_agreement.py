"""Poses made wrong in the usual ways are refused by name; right ones never are, however the camera moves."""

import re
import time
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from agreement_fixtures import COUNT, photographed, walk
from PIL import Image, ImageOps
from repository import DATA
from tiny_capture import wall_view

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose, se3_exp, so3_exp
from aprloc_ros.training.checks import agreement
from aprloc_ros.training.checks.agreement import check_poses
from aprloc_ros.training.checks.contradictions import (
    CONTRADICTIONS,
    HARMLESS,
    T_BASE_CAM,
    with_focal_length,
    with_poses,
)
from aprloc_ros.training.checks.evidence import Evidence, gather
from aprloc_ros.training.checks.moments import between_changes
from aprloc_ros.training.checks.parts import goes_on
from aprloc_ros.training.checks.stretch import strangers, stretch
from aprloc_ros.training.checks.stuck import is_planar, stuck
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.parsing import in_order
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.datasets.stereo import mounts_of_pair
from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.drive import camera_poses
from aprloc_ros.training.structure.two_views import ViewPair

pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')


@pytest.fixture(scope='module')
def frames(walked):
    return walked


@pytest.fixture(scope='module')
def seen(frames) -> Evidence:
    return gather(frames)


@pytest.fixture
def quick(seen, monkeypatch):
    """What the images say does not depend on the poses, but for the choice of some pairs: it is matched once."""
    monkeypatch.setattr(agreement, 'gather', lambda given: seen if len(given) == COUNT else gather(given))


def judged(frames, mounts=None):
    return check_poses(frames, frames, mounts or {})


@pytest.mark.parametrize('name', CONTRADICTIONS)
def test_a_usual_mistake_is_named(frames, quick, name):
    change, words = CONTRADICTIONS[name]
    with pytest.raises(AprlocError, match=r'contradict the images: \d+% of \d+ matches in \d+ pairs') as caught:
        judged(with_poses(frames, change))
    assert words in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('name', HARMLESS)
def test_right_poses_are_verified_noise_or_not(frames, quick, name):
    found = judged(with_poses(frames, HARMLESS[name]))
    assert found.verified and ('noisy' in found.text) == ('1 deg' in name), found.text


def test_nothing_but_the_images_chooses_what_is_compared(frames):
    """The whole check, with pairs found anew."""
    assert judged(frames).verified
    with pytest.raises(AprlocError, match=r'a body .base_link.*sits at about .0\.[23]\d, .*looks along .0\.9[78], '):
        judged(with_poses(frames, CONTRADICTIONS['poses of base_link'][0]))


def test_the_frame_that_tf_static_knows_is_named(frames, quick):
    wrong = with_poses(frames, CONTRADICTIONS['poses of base_link'][0])
    mounts = {'as those of imu': torch.eye(4).double(), 'as those of base_link: set pose_frame': T_BASE_CAM}
    with pytest.raises(AprlocError, match='they fit as those of base_link: set pose_frame'):
        judged(wrong, mounts)


@pytest.mark.parametrize('tag, turn', [(3, cv2.ROTATE_180), (6, cv2.ROTATE_90_COUNTERCLOCKWISE), (8, cv2.ROTATE_90_CLOCKWISE)])
def test_images_here_and_there_that_viewers_turn_are_named(frames, tmp_path, tag, turn):
    """A phone that was held the other way round for a third of them; their poses are of the images as they are shown."""
    side = min(CAMERA.width, CAMERA.height)
    left = round(CAMERA.cx - (side - 1) / 2)
    square, exif, stored = replace(CAMERA, width=side, height=side, cx=CAMERA.cx - left), Image.Exif(), []
    exif[274] = tag
    for index, frame in enumerate(frames):
        shown = np.ascontiguousarray(frame.read_image()[:side, left:left + side])
        path = tmp_path / frame.image_path.name
        if index % 3:
            Image.fromarray(shown).save(path)
        else:
            Image.fromarray(cv2.rotate(shown, turn)).save(path, exif=exif)
            with Image.open(path) as image:
                assert np.array_equal(ImageOps.exif_transpose(image), shown)
        stored.append(replace(frame, image_path=path, camera=square))
    with pytest.raises(AprlocError, match='they fit if the images are turned as their EXIF tags say: turn the files'):
        judged(tuple(stored))


def test_poses_of_the_raw_camera_with_rectified_images_are_named(frames, quick):
    R = cv2.Rodrigues(np.array([0.03, 0.05, -0.02]))[0]
    mounts = mounts_of_pair(SimpleNamespace(r=R.ravel(), p=(300.0, 0, 0, -36.0, 0, 300.0, 0, 0, 0, 0, 1, 0)), True)
    raw = with_poses(frames, lambda T: T @ pose(torch.from_numpy(R), torch.zeros(3, dtype=torch.float64)))
    with pytest.raises(AprlocError, match='as those of the camera as it is, not rectified, which R of camera_info turns by 3.53 degrees'):
        judged(raw, mounts)
    assert judged(frames, mounts).verified


def test_a_stretch_of_wrong_poses_is_named(frames, quick):
    inverse = CONTRADICTIONS['world-to-camera'][0]
    with pytest.raises(AprlocError, match=r'of those of 1[0-3].png to 19.png only \d+% do; these fit as world-to-camera'):
        judged((*frames[:12], *with_poses(frames[12:], inverse)))


def test_a_stretch_needs_more_than_a_pair():
    still = np.zeros((2, 30, 3)) + (0, 0, 1)
    pairs = Evidence(tuple(ViewPair(i, i + 1, still, np.eye(3)) for i in range(20)))
    assert stretch(pairs, np.zeros(20, bool)) is None and stretch(pairs, np.arange(20) == 7) is None
    assert stretch(pairs, np.arange(20) > 15) == (17, 19)


def test_images_that_match_none_of_the_others_are_strangers_where_they_alone_fit_badly():
    still = np.zeros((2, 30, 3)) + (0, 0, 1)
    links = [(i, i + 2) for i in range(14)]   # even frames with even ones, odd with odd
    alternating = Evidence(tuple(ViewPair(a, b, still, np.eye(3)) for a, b in links))
    odd = np.array([a % 2 == 1 for a, _ in links])
    assert strangers(alternating, odd) == list(range(1, 16, 2)) and strangers(alternating, ~odd) == list(range(0, 16, 2))
    assert not strangers(alternating, np.ones(14, bool)) and not strangers(alternating, np.zeros(14, bool))
    linked = Evidence((*alternating.pairs, ViewPair(3, 4, still, np.eye(3))))
    assert not strangers(linked, np.append(odd, False))


@pytest.mark.slow
@pytest.mark.parametrize('every', [2, 3])
def test_images_of_a_rear_camera_among_those_of_the_front_one_are_named(frames, tmp_path, every):
    T_front_rear = np.diag([-1.0, 1, -1, 1])
    T_front_rear[2, 3] = -0.3
    rear = photographed(tmp_path / 'rear', walk() @ T_front_rear)
    mixed = tuple(replace(rear[i] if i % every == 1 else front, name=front.name, T_map_cam=front.T_map_cam) for i, front in enumerate(frames))
    with pytest.raises(AprlocError, match=r'of those of 01\.png, .* \(\d+ images that match none of the others: another camera.*'
                                          r'as those of a body .* looks along \(-?0\.0\d, -?0\.0\d, -1\.00\)'):
        judged(mixed)


def test_parts_in_frames_of_their_own_are_told_by_the_jump(frames, quick):
    with pytest.raises(AprlocError, match=r'they jump between 09\.png and 10\.png, and the images do not: \d+% of \d+ matches'):
        judged((*frames[:10], *with_poses(frames[10:], lambda T: T_BASE_CAM @ T)))


@pytest.mark.parametrize('factor', [0.8, 1.3])
def test_a_second_half_of_another_scale_is_named(frames, quick, factor):
    """As of a SLAM that lost it: every pair within a half fits, as two views know no scale."""
    def scaled(T):
        return pose(T[:, :3, :3], T[:1, :3, 3] + factor * (T[:, :3, 3] - T[:1, :3, 3]))
    with pytest.raises(AprlocError, match=r'from 1[01]\.png on the way is (0\.[78]\d*|1\.[23]\d*) times what it should be') as caught:
        judged((*frames[:10], *with_poses(frames[10:], scaled)))
    assert float(re.search(r'is ([\d.]+) times', str(caught.value))[1]) == pytest.approx(factor, rel=0.05)


def test_a_second_half_that_drifted_apart_is_doubted(frames, quick):
    aside = se3_exp(torch.tensor([0.5, 0.3, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    found = judged((*frames[:10], *with_poses(frames[10:], lambda T: aside @ T)))
    assert not found.verified and re.search(r'WARNING: .*those from 1\d\.png on do not fit those before .* did they drift apart', found.text)


@pytest.fixture(scope='module')
def rounds(tmp_path_factory) -> tuple[Frame, ...]:
    """Two rounds before a facade, the head turning otherwise on each."""
    s = np.linspace(0, 1, 30)
    eye = np.stack([-3 + 1.8 * np.cos(4 * np.pi * s), -2.5 + 1.2 * np.sin(4 * np.pi * s), 1.4 + 0.3 * np.sin(9 * s)], -1)
    T_map_cam = camera_poses(eye, 1.3 + 0.3 * np.sin(17 * s), 0.05 + 0.1 * np.cos(7 * s), 0.15 * np.sin(9 * s))
    return photographed(tmp_path_factory.mktemp('rounds'), T_map_cam)


def drifting(turn_deg: float):
    """Poses as odometry has them: right from one image to the next, with a heading that drifts by so much over the way."""
    def change(T):
        R = so3_exp(torch.linspace(0, np.deg2rad(turn_deg), len(T), dtype=torch.float64)[:, None] * T.new_tensor([0, 0, 1]))
        steps = R[1:] @ (T[1:, :3, 3:] - T[:-1, :3, 3:])
        return pose(R @ T[:, :3, :3], T[:1, :3, 3] + torch.cat([T.new_zeros(1, 3), steps[..., 0].cumsum(0)]))
    return change


def test_poses_that_drift_are_doubted(rounds):
    assert judged(rounds).verified and judged(with_poses(rounds, HARMLESS['noise of 1 cm, 0.3 deg'])).verified
    found = judged(with_poses(rounds, drifting(6.0)))
    assert not found.verified and re.search(r'WARNING: .*images that are far apart on the way are .* did they drift', found.text), found.text


def test_images_of_a_pair_of_cameras_under_the_poses_of_the_other_one_are_doubted(frames, tmp_path):
    """Left and right exchanged: each camera's images fit among themselves."""
    T_left_right = se3_exp(torch.tensor([0.3, 0, 0, 0, 0, 0], dtype=torch.float64))
    right = photographed(tmp_path / 'right', walk()[::2] @ T_left_right.numpy())
    left, right = ([replace(frame, name=f'{name}/{frame.name}', sequence=name) for frame in of]
                   for name, of in (('left', frames[::2]), ('right', right)))
    assert judged((*left, *right)).verified
    exchanged = [replace(a, T_map_cam=b.T_map_cam) for a, b in (*zip(left, right), *zip(right, left))]
    found = judged(tuple(exchanged))
    assert not found.verified and re.search(r"of different sequences are .* each camera's images under its own poses", found.text), found.text


@pytest.fixture(scope='module')
def corridor(tmp_path_factory) -> tuple[Frame, ...]:
    """Past a wall whose last stretch looks like its first one, some metres on."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    noise[:, 140:] = noise[:, :60]
    texture, camera, frames = cv2.resize(noise, (800, 400), interpolation=cv2.INTER_CUBIC), Camera(160, 120, 133.0, 133.0, 79.5, 59.5), []
    for i, s in enumerate(np.linspace(0, 1, 45)):
        T = se3_exp(torch.tensor([0, 0, 0, 0.05 * np.sin(9 * s), 0.2 * np.sin(30 * s), 0]))
        T[:3, 3] = torch.tensor([14 * s - 7, 0.7 * np.cos(23 * s), -2 - 0.4 * np.sin(20 * s)])
        path = tmp_path_factory.getbasetemp() / f'corridor{i:02d}.png'
        cv2.imwrite(str(path), wall_view(T.numpy(), texture, camera)[0][..., ::-1])
        frames.append(Frame(path.name, path, T, camera))
    return tuple(frames)


def test_places_that_look_alike_are_doubted_not_refused_where_the_way_between_them_is_seen(corridor):
    found = judged(corridor)
    assert not found.verified and 'though all images in between fit one another: do two places look alike' in found.text, found.text


def test_the_way_is_not_seen_where_the_second_part_lies_in_a_frame_of_its_own(corridor):
    aside = se3_exp(torch.tensor([0.3, 0.5, 0.0, 0.0, 0.0, 0.1], dtype=torch.float64))
    apart = (*corridor[:20], *with_poses(corridor[20:], lambda T: aside @ T))
    assert goes_on(corridor, corridor[3], corridor[38], 0.003)
    assert not goes_on(apart, apart[3], apart[38], 0.003)
    jumped = (*corridor[:20], *with_poses(corridor[20:], lambda T: pose(T[:, :3, :3], T[:, :3, 3] + T.new_tensor([3, 0, 0]))))
    assert not goes_on(jumped, jumped[3], jumped[38], 0.003)   # straight on: what is seen in between would allow it


def test_images_that_have_the_poses_of_their_neighbours_here_and_there_are_doubted(frames, quick):
    late = [replace(frame, T_map_cam=frames[i + 1].T_map_cam) if i in (3, 9, 14) else frame for i, frame in enumerate(frames)]
    found = judged(tuple(late))
    assert re.search(r'WARNING: .*pairs of neighbours are more than 0.4 deg off .*have some images the poses of others', found.text), found.text


def test_a_glitch_of_two_poses_is_no_jump(frames):
    glitch, rest = (with_poses(part, lambda T: T_BASE_CAM @ T) for part in (frames[10:12], frames[12:]))
    taken = (*frames[:10], *glitch, *frames[12:])
    agreement._check_jumps(taken, taken, np.deg2rad(6.0))
    taken = (*frames[:10], *glitch, *rest)   # all that follows lies there too
    with pytest.raises(AprlocError, match=r'they jump between 09\.png and 10\.png'):
        agreement._check_jumps(taken, taken, np.deg2rad(6.0))


@pytest.mark.parametrize(('code', 'words'), [
    (cv2.ROTATE_90_CLOCKWISE, 'if the images are turned by a quarter counter-clockwise'), (None, 'if they are mirrored')])
def test_images_that_were_turned_or_mirrored_after_their_poses_were_found(frames, tmp_path, code, words):
    turned = []
    for frame in frames:
        image, path, camera = cv2.imread(str(frame.image_path)), tmp_path / frame.image_path.name, frame.camera
        image = cv2.flip(image, 1) if code is None else cv2.rotate(image, code)
        height, width = image.shape[:2]
        cv2.imwrite(str(path), image)
        turned.append(replace(frame, image_path=path, camera=replace(camera, width=width, height=height, cx=width / 2, cy=height / 2)))
    with pytest.raises(AprlocError, match=words):
        judged(tuple(turned))


def test_a_clock_that_is_off_by_a_part_of_the_step_between_images_is_told(frames, quick):
    """Of images 0.2 s apart."""
    late_s, steps = -0.26, (COUNT - 1) * 0.2
    wrong = tuple(replace(frame, T_map_cam=torch.from_numpy(T)) for frame, T in zip(frames, walk(late_s / steps)))
    with pytest.raises(AprlocError, match='each image has the pose of the one') as caught:
        judged(wrong)
    side, told_s = re.search(r' (before|after) it, (0\.\d+) s off', str(caught.value)).groups()
    assert side == 'before' and abs(float(told_s) + late_s) < 0.03


def test_a_wrong_principal_point_is_told_from_wrong_poses(frames):
    """Of another mode of the camera, or a crop. It would look like a camera that is mounted elsewhere, a little turned."""
    wrong = tuple(replace(frame, camera=replace(CAMERA, cx=CAMERA.cx - 30, cy=CAMERA.cy + 20)) for frame in frames)
    with pytest.raises(AprlocError, match='contradict the declared lens.*they fit a principal point at ') as caught:
        judged(wrong)
    x, y = map(float, re.search(r'point at (\d+), (\d+) instead', str(caught.value)).groups())
    assert abs(x - CAMERA.cx) < 3 and abs(y - CAMERA.cy) < 3


@pytest.mark.parametrize('axis', [3, 4, 5])
def test_a_mount_that_is_turned_a_little_is_told_from_a_wrong_principal_point(frames, quick, axis):
    """Extrinsics that are two degrees off: a centre a few pixels off fits nearly as well."""
    turn = se3_exp(torch.eye(6, dtype=torch.float64)[axis] * np.deg2rad(2))
    try:
        said = judged(with_poses(frames, lambda T: T @ turn)).text
    except AprlocError as error:
        said = str(error)
    forward = re.search(r'they fit as those of a body .* looks along \(([^)]*)\)', said)
    assert forward and 'principal point' not in said, said
    assert np.abs(np.array(forward[1].split(', '), float) - turn[2, :3].numpy()).max() < 0.015


def test_what_a_source_of_poses_does_not_measure_is_said():
    T = torch.from_numpy(walk())
    assert stuck(T) == ''
    assert 'same rotation' in stuck(pose(T[:1, :3, :3].expand(COUNT, 3, 3), T[:, :3, 3]))
    assert 'same position' in stuck(pose(T[:, :3, :3], T[:1, :3, 3].expand(COUNT, 3)))
    assert '50% of them repeat' in stuck(T[torch.arange(1, COUNT) // 2])
    assert stuck(pose(T[:, :3, :3], T[:, :3, 3].round(decimals=1))) == 'their positions are rounded to 0.1'
    assert stuck(pose(T[:, :3, :3], (1000 * T[:, :3, 3]).round())) == ''   # millimetres
    s = np.linspace(0, 1, COUNT)
    level = camera_poses(np.stack([s, np.sin(4 * s), 0 * s + 1.4], -1), 5 * s, 0 * s, 0 * s)
    assert is_planar(torch.from_numpy(level)) and stuck(torch.from_numpy(level)) == '' and not is_planar(T)


def test_poses_of_a_plane_under_a_camera_that_tilts_are_called_that(frames, quick):
    def flat(T):
        heading = torch.atan2(T[:, 1, 2], T[:, 0, 2])
        eye = torch.cat([T[:, :2, 3], torch.full((COUNT, 1), 1.4, dtype=T.dtype)], 1).numpy()
        return torch.from_numpy(camera_poses(eye, heading.numpy(), np.zeros(COUNT), np.zeros(COUNT)))
    try:
        said = judged(with_poses(frames, flat)).text
    except AprlocError as error:
        said = str(error)
    assert 'a plane and a heading alone' in said, said


def test_a_few_wrong_poses_are_doubted_not_refused(frames, quick):
    scattered = list(frames)
    scattered[7] = replace(frames[7], T_map_cam=frames[15].T_map_cam)
    found = judged(tuple(scattered))
    assert '%' in found.text


@pytest.mark.parametrize(('factor', 'says', 'stops'), [
    (0.97, 'a focal length of 1.03 times', False), (1.12, 'WARNING', False), (0.6, 'mend the intrinsics', True),
    (4.0, '0.25 times the declared one: mend the intrinsics', True)])
def test_a_wrong_focal_length_is_told_from_wrong_poses(frames, factor, says, stops):
    wrong = with_focal_length(frames, factor)
    if stops:
        with pytest.raises(AprlocError, match=says):
            judged(wrong)
    else:
        found = judged(wrong)
        assert found.verified and says in found.text, found.text


def test_order_is_that_of_all_frames(frames, seen, monkeypatch):
    """Shifted before some were held out: neighbours of the rest are not neighbours in the capture."""
    shifted = with_poses(frames, CONTRADICTIONS['frames shifted by 1'][0])
    some = [i for i in range(COUNT) if i % 3]
    renumbered = {old: new for new, old in enumerate(some)}
    pairs = tuple(replace(pair, first=renumbered[pair.first], second=renumbered[pair.second])
                  for pair in seen.pairs if pair.first in renumbered and pair.second in renumbered)
    monkeypatch.setattr(agreement, 'gather', lambda frames: Evidence(pairs))
    with pytest.raises(AprlocError, match='shifted by 1'):
        check_poses(tuple(shifted[i] for i in some), shifted, {})


def test_sequences_in_frames_of_their_own_are_doubted(frames, seen, monkeypatch):
    """Each fits itself."""
    two = tuple(replace(frame, sequence='there' if i < COUNT // 2 else 'back') for i, frame in enumerate(frames))
    assert judged(two).verified
    apart = (*two[:COUNT // 2], *with_poses(two[COUNT // 2:], lambda T: T_BASE_CAM @ T))
    within = tuple(pair for pair in seen.pairs if two[pair.first].sequence == two[pair.second].sequence)
    monkeypatch.setattr(agreement, 'gather', lambda frames: Evidence(within))
    found = judged(apart)
    assert not found.verified and 'in one map frame' in found.text, found.text


def turning(s: np.ndarray) -> np.ndarray:
    """In one place."""
    return camera_poses(np.tile([-2.0, -2.0, 1.4], (len(s), 1)), 0.9 + 0.9 * s, 0.1 * np.sin(6 * s), 0.2 * np.cos(5 * s))


def forward(s: np.ndarray) -> np.ndarray:
    return camera_poses(np.stack([-8 + 6 * s, -4 + 3.6 * s, 1.3 + 0 * s], -1), 0 * s + np.arctan2(3.6, 6.0), 0 * s + 0.05, 0 * s)


def standing(s: np.ndarray) -> np.ndarray:
    """Millimetres."""
    return camera_poses(np.stack([-2 + 0.004 * s, -2 + 0.003 * np.sin(9 * s), 1.4 + 0 * s], -1), 0 * s + 1.3, 0 * s + 0.05, 0 * s)


def test_on_a_straight_way_a_wrong_centre_and_a_turned_mount_are_not_told_apart(tmp_path):
    frames = photographed(tmp_path / 'drive', forward(np.linspace(0, 1, 12)))
    with pytest.raises(AprlocError, match=r'mend the intrinsics \(or the extrinsics of the camera'):
        judged(with_poses(frames, lambda T: T @ se3_exp(torch.tensor([0, 0, 0, 0, 0.05, 0]).double())))


@pytest.mark.parametrize('motion', [turning, forward, standing])
def test_right_poses_of_degenerate_motion_are_not_refused(tmp_path, motion):
    frames = photographed(tmp_path / 'drive', motion(np.linspace(0, 1, 12)))
    found = judged(frames)
    assert 'WARNING' not in found.text and found.verified == (motion is not standing), found.text
    if motion is turning:   # rotations tell even where there is no epipolar line
        with pytest.raises(AprlocError, match='OpenGL'):
            judged(with_poses(frames, CONTRADICTIONS['OpenGL axes'][0]))


def test_images_without_texture_are_not_checked(frames, tmp_path):
    blank = tmp_path / 'blank.png'
    cv2.imwrite(str(blank), np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8))
    found = judged(tuple(replace(frame, image_path=blank) for frame in frames))
    assert not found.verified and 'not checked' in found.text


def test_blurred_images_are_not_refused(frames, tmp_path):
    blurred = []
    for frame in frames:
        path = tmp_path / frame.image_path.name
        cv2.imwrite(str(path), cv2.GaussianBlur(cv2.imread(str(frame.image_path)), (0, 0), 4.0))
        blurred.append(replace(frame, image_path=path))
    assert 'poses' in judged(tuple(blurred)).text


@pytest.mark.parametrize(('model', 'distortion'), [('opencv', (-0.25, 0.08, 0.002, -0.001)), ('fisheye', (0.2, -0.1, 0.0, 0.0))])
def test_distorted_images_are_compared_by_their_lens(frames, tmp_path, model, distortion):
    camera = replace(CAMERA, model=model, distortion=distortion)
    optics = cv2.fisheye if model == 'fisheye' else cv2
    pixels = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), -1).reshape(-1, 1, 2).astype(np.float64)
    straight = optics.undistortPoints(pixels, camera.matrix, np.array(distortion), P=CAMERA.matrix)
    u, v = (straight[:, 0, i].reshape(CAMERA.height, CAMERA.width).astype(np.float32) for i in (0, 1))
    warped = []
    for frame in frames:
        path = tmp_path / frame.image_path.name
        cv2.imwrite(str(path), cv2.remap(cv2.imread(str(frame.image_path)), u, v, cv2.INTER_CUBIC))
        warped.append(replace(frame, image_path=path, camera=camera))
    found = judged(tuple(warped))
    assert found.verified and 'focal' not in found.text and 'noisy' not in found.text, found.text


def directions(*vectors) -> np.ndarray:
    v = np.array(vectors, float)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def test_a_match_may_lie_anywhere_on_its_arc_and_nowhere_else():
    """A camera that moves a metre to the right sees points move to the left: the nearer, the further."""
    T = np.tile(np.eye(4), (2, 1, 1))
    T[1, 0, 3] = 1.0
    ahead = directions(*[(0, 0, 1)] * 5)
    there = directions((0, 0, 1), (-0.1, 0, 1), (-5, 0, 1), (0.1, 0, 1), (-0.5, 0.1, 1))
    residuals = Evidence((ViewPair(0, 1, np.stack([ahead, there]), np.eye(3)),)).residuals(T)
    assert np.allclose(residuals[:3], 0, atol=1e-7)
    assert np.isclose(residuals[3], np.arctan(0.1)) and np.isclose(residuals[4], np.arctan(0.1 / np.hypot(1, 0.5)))
    T[1, 0, 3] = 0.0
    angles = np.arctan2(np.linalg.norm(np.cross(ahead, there), axis=1), (ahead * there).sum(1))
    assert np.allclose(Evidence((ViewPair(0, 1, np.stack([ahead, there]), np.eye(3)),)).residuals(T), angles)


def test_poses_that_were_held_are_found_in_between():
    """A steady way in two sequences, of which poses came every fourth image and at once at the second's beginning."""
    steady = torch.tensor([0.1, 0.02, 0.0, 0.0, 0.03, 0.01], dtype=torch.float64)
    T = torch.stack([se3_exp(steady * i) for i in range(22)]).numpy()
    sequence = np.repeat([0, 1], 11)
    held = T[[0] * 4 + [4] * 4 + [8] * 3 + [11] * 4 + [15] * 7]
    found = between_changes(held, sequence)
    told = np.isfinite(found).all((1, 2))
    assert told.nonzero()[0].tolist() == [*range(9), *range(11, 16)]
    # Between two poses the position goes straight, the camera on an arc of 7 degrees.
    assert np.abs(found[told] - T[told]).max() < 0.02 and np.abs(found[[4, 8, 15]] - T[[4, 8, 15]]).max() < 1e-12
    assert np.abs(between_changes(T, sequence) - T).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize('name', ['fox', 'redkitchen', 'terrace'])
def test_real_captures(name):
    """None refused as it is, and every mistake named, each within a minute."""
    if not (DATA / name).is_dir():
        pytest.skip(f'no {DATA / name}')
    capture = read_capture(DATA / name)
    everything = in_order((*capture.train, *capture.test))
    fit = {frame.name for frame in calibration_split(capture.train, capture.name)[0]}

    def said(change):
        taken = with_poses(everything, change)
        start = time.perf_counter()
        try:
            text = check_poses(tuple(frame for frame in taken if frame.name in fit), taken, capture.mounts).text
        except AprlocError as error:
            text = f'refused: {error}'
        print(f'{name}, {time.perf_counter() - start:.0f} s: {text}')
        return text
    for change in HARMLESS.values():
        assert 'refused' not in said(change)
    for label, (change, words) in CONTRADICTIONS.items():
        text = said(change)
        assert 'refused' in text and (words in text or label.startswith('half')), (label, text)
