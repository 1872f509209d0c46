"""Which images are taken, and which are matched: against pictures whose movement is known exactly."""

import math
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from posing_fixtures import write_images

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import se3_exp
from aprloc_ros.recordings.stamp_order import CLOCK_SET_BACK_FRAMES
from aprloc_ros.training.posing.pairs import alike, beside_keys, in_order, loops
from aprloc_ros.training.posing.sources.photos import Photos
from aprloc_ros.training.posing.sources.selection import measure, select
from aprloc_ros.training.posing.sources.shots import Look
from aprloc_ros.training.posing.sources.video import Video
from aprloc_ros.training.structure.vlad import likeness

WIDTH, HEIGHT = 320, 240
DIAGONAL = 400.0


class Film:
    """A source that is a video."""

    path, is_video, notes, what = 'film', True, [], 'video'


def texture(width: int = 2000, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 4 + 8, width // 4), dtype=np.uint8)
    return cv2.resize(noise, (width, HEIGHT + 32), interpolation=cv2.INTER_CUBIC)


def pan(shifts_px, blurred=()) -> list[Look]:
    """Looks at a texture from so many pixels further right each."""
    place, looks = texture(), []
    for i, shift in enumerate(np.cumsum(shifts_px)):
        view = place[16:16 + HEIGHT, int(shift):int(shift) + WIDTH]
        looks.append(Look(i, i / 30, cv2.GaussianBlur(view, (0, 0), 2.5) if i in blurred else view))
    return looks


def test_movement_is_that_of_the_picture():
    steps = measure(pan([0, 4, 0, 12, 20]))
    assert [step.moved for step in steps][1:] == pytest.approx([4 / DIAGONAL, 0, 12 / DIAGONAL, 20 / DIAGONAL], abs=2e-4)
    assert steps[0].moved is None


def test_the_sharpest_of_equal_stretches_is_taken_and_nothing_twice():
    shifts = [0] + [4] * 99            # 396 pixels: about 25 stretches of a twenty-fifth of the diagonal
    blurred = {i for i in range(100) if i % 4}
    chosen = select(measure(pan(shifts, blurred)), Film(), None)
    assert 20 <= len(chosen.indices) <= 30 and not set(chosen.indices) & blurred
    assert np.diff(chosen.indices).max() <= 8 and len(set(chosen.indices)) == len(chosen.indices)
    assert f'{len(chosen.indices)} of 100' in chosen.text and '%' in chosen.text


def test_of_more_images_than_the_movement_asks_for_some_are_keys():
    steps = measure(pan([0] + [2] * 599))      # 1198 pixels: 74 stretches of a twenty-fifth of the diagonal
    few, many = (select(steps, Film(), wanted) for wanted in (None, 500))
    assert few.keys == few.indices
    assert 70 <= len(many.keys) <= 76 and len(many.indices) == 500 and set(many.keys) < set(many.indices)
    assert np.diff(many.keys).max() <= 2 * 600 / 74 + 1      # one of each stretch
    assert select(measure(pan([0] + [2] * 40)), Film(), 40).keys == select(measure(pan([0] + [2] * 40)), Film(), 40).indices


def test_an_image_that_is_no_key_is_matched_with_the_keys_beside_it():
    keys = [0, 4, 8, 12]
    found = beside_keys(['a'] * 10 + ['b'] * 6, keys)
    assert {pair for pair in found if 5 in pair} == {(0, 5), (4, 5), (5, 8)}     # 12 is of another sequence
    assert {pair for pair in found if 14 in pair} == {(12, 14)}
    assert not [pair for pair in found if set(pair) <= set(keys)]


def test_a_pause_gives_no_more_images():
    moving = [0] + [4] * 60
    paused = [0] + [4] * 30 + [0] * 50 + [4] * 30
    assert len(select(measure(pan(moving)), Film(), None).indices) == len(select(measure(pan(paused)), Film(), None).indices)


def test_black_stretches_give_no_images():
    """A lens cap, or a cut: each black look was taken for a move."""
    looks = pan([0] + [4] * 199)
    cut = [*looks[:60], *(Look(i, i / 30, np.full_like(looks[0].grey, 2)) for i in range(60, 120)), *looks[120:]]
    chosen, whole = (select(measure(some), Film(), None) for some in (cut, looks))
    assert not set(chosen.indices) & set(range(60, 120)) and set(chosen.keys) <= set(chosen.indices)
    assert len(chosen.indices) <= len(whole.indices) and '60 that show next to nothing are left out' in chosen.text
    assert 'next to nothing' not in whole.text


def test_as_many_as_are_asked_for():
    chosen = select(measure(pan([0] + [4] * 60)), Film(), 10)
    assert len(chosen.indices) == 10 and '--frames 10' in chosen.text


@pytest.mark.parametrize('looks, words', [
    ([Look(i, None, np.full((HEIGHT, WIDTH), 90, np.uint8)) for i in range(8)], 'show next to nothing'),
    ([Look(i, None, cv2.GaussianBlur(texture()[:HEIGHT, 9 * i:9 * i + WIDTH], (0, 0), 9)) for i in range(8)], 'blurred'),
    (pan([0] * 40), 'hardly moves'),
    (pan([0]), '1 readable image;')])
def test_what_cannot_be_posed_is_refused_in_one_line(looks, words):
    with pytest.raises(AprlocError, match=words) as caught:
        select(measure(looks), Film(), None)
    assert '\n' not in str(caught.value)


def test_a_folder_is_taken_whole_but_for_doubled_images(tmp_path):
    place = texture()
    views = [cv2.cvtColor(place[:HEIGHT, x:x + WIDTH], cv2.COLOR_GRAY2RGB) for x in (0, 20, 20, 40, 60, 80)]
    source = Photos(write_images(tmp_path / 'my photos', views))
    chosen = select(measure(source.looks()), source, None)
    assert chosen.indices == (0, 1, 3, 4, 5) and chosen.is_video
    assert not select(measure([Look(i, None, texture(400, i)[:HEIGHT, :WIDTH]) for i in range(6)]), source, None).is_video


def test_neighbours_in_time_are_matched_within_their_sequence():
    pairs = in_order(['a'] * 40 + ['b'] * 10)
    assert {(0, 1), (0, 8), (0, 16), (0, 32), (40, 41)} <= pairs
    assert not {(0, 9), (39, 40)} & pairs and all(i < j and (i < 40) == (j < 40) for i, j in pairs)


def test_loops_are_alike_at_other_times_and_apart_from_one_another():
    count = 60
    angle = 2 * np.pi * np.arange(count) / 30          # two rounds
    near = np.cos(angle[:, None] - angle[None]).astype(np.float32)
    found = loops(near)
    assert all((i, i + 30) in found for i in range(30))
    assert all(j - i > 8 for i, j in found)


def test_photos_are_matched_with_those_that_look_alike():
    assert len(alike(np.zeros((10, 10), np.float32))) == 45
    place = np.arange(100) % 4
    pairs = alike((place[:, None] == place[None]).astype(np.float32) - 2 * np.eye(100, dtype=np.float32))
    assert all(place[i] == place[j] for i, j in pairs) and len(pairs) >= 100 * 20 / 2


def test_images_of_one_place_are_more_alike_than_others():
    random = np.random.default_rng(0)
    places = [random.integers(0, 90, (300, 128)) for _ in range(3)]
    views = [(place + random.integers(-3, 4, place.shape)).clip(0).astype(np.uint8) for place in places for _ in range(2)]
    near = likeness([view[:: 1 + i % 2] for i, view in enumerate(views)])
    assert [int(row.argmax()) for row in near] == [1, 0, 3, 2, 5, 4]
    assert (likeness([np.zeros((0, 128), np.uint8)] * 2) == -1).all()


def test_the_benchmark_measures_what_is_left_after_a_similarity():
    pytest.importorskip('pycolmap', reason='pycolmap is an extra of the training side')
    from aprloc_ros.training.benchmarks.measures.laying import errors_after_similarity

    random = torch.Generator().manual_seed(0)
    truth = se3_exp(torch.randn(20, 6, generator=random, dtype=torch.float64))
    turn = se3_exp(torch.tensor([0.0, 0, 0, 0.3, -0.8, 0.5], dtype=torch.float64))[:3, :3]
    ours = truth.clone()
    ours[:, :3, :3], ours[:, :3, 3] = turn @ truth[:, :3, :3], 3.0 * truth[:, :3, 3] @ turn.T + 5
    assert max(errors_after_similarity(ours, truth)) < 1e-5
    off_deg = 2.0
    ours[:, :3, :3] = ours[:, :3, :3] @ se3_exp(torch.tensor([0.0, 0, 0, 0, 0, math.radians(off_deg)], dtype=torch.float64))[:3, :3]
    assert errors_after_similarity(ours, truth)[1] == pytest.approx(off_deg, abs=1e-5)


def test_a_bag_whose_clock_is_set_back_is_looked_at_to_its_end(tmp_path):
    from drive_fixtures import DriveBag, picture, stamp

    from aprloc_ros.training.posing.sources.bag_source import BagSource

    count, back_ns = 240, 3600 * 10**9
    with DriveBag(tmp_path / 'bag') as bag:
        for index in range(count):
            bag.image(stamp(index) - (back_ns if index >= count // 2 else 0), picture(index), recorded_ns=stamp(index))
    looks = list(BagSource(tmp_path / 'bag').looks())
    assert len(looks) == count - CLOCK_SET_BACK_FRAMES + 1 and looks[-1].index == count - 1


def slowed_from(path: Path, count: int, first: int, times: int):
    """Of a video of `count` frames those from `first` on come so many times as seldom, by its table of times (ISO 14496-12, stts)."""
    data = bytearray(path.read_bytes().replace(b'edts', b'free'))   # an edit list would end it where it ended
    at = data.find(b'stts') - 4
    _, _, _, entries, frames, ticks = struct.unpack('>I4s4I', data[at:at + 24])
    assert (entries, frames) == (1, count) and data.find(b'mdat') < at
    data[at:at + 24] = struct.pack('>I4s6I', 32, b'stts', 0, 2, first, ticks, count - first, times * ticks)
    for box in (b'stbl', b'minf', b'mdia', b'trak', b'moov'):   # each holds the one before
        start = data.rfind(box, 0, at) - 4
        data[start:start + 4] = struct.pack('>I', struct.unpack('>I', data[start:start + 4])[0] + 8)
    path.write_bytes(data)


def test_frames_of_a_video_that_come_unevenly_have_their_own_stamps(tmp_path):
    """As a phone's do, which films more slowly in the dark."""
    path = tmp_path / 'film.mp4'
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 30, (WIDTH, HEIGHT))
    for look in pan([4] * 60):
        film.write(cv2.cvtColor(look.grey, cv2.COLOR_GRAY2BGR))
    film.release()
    even = Video(path)
    assert [look.stamp_s for look in even.looks()] == pytest.approx([look.index / 30 for look in even.looks()])
    slowed_from(path, 60, 30, 3)
    stamps_s = {look.index: look.stamp_s for look in Video(path).looks()}
    assert max(stamps_s) > 50 and all(stamp == pytest.approx(min(i, 30) / 30 + max(i - 30, 0) / 10, abs=1e-3) for i, stamp in stamps_s.items())
    assert [shot.stamp_s for shot in Video(path).take([10, 50], tmp_path / 'frames')] == pytest.approx([1 / 3, 3.0])
