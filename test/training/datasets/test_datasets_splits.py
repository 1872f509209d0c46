"""Held-out frames, and telling the formats apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from capture_fixtures import make_scene, refused

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.splits import calibration_split, held_out, is_video


def frames(poses: np.ndarray, stamps: bool = False, sequence: str = '') -> tuple[Frame, ...]:
    camera = Camera(32, 24, 30, 30, 15.5, 11.5)
    return tuple(Frame(f'{sequence}{index:05d}', Path('none'), torch.from_numpy(T), camera,
                       stamp_s=index / 30 if stamps else None, sequence=sequence) for index, T in enumerate(poses))


def photographs(count: int) -> np.ndarray:
    """Poses in no order at all."""
    return make_scene(count).T_world_cam[np.random.default_rng(0).permutation(count)]


@pytest.mark.parametrize('count', [8, 9, 20, 50, 100, 333, 900, 4000])
def test_blocks_of_a_video_are_contiguous_guarded_and_about_a_tenth(count):
    video = frames(make_scene(count).T_world_cam, stamps=True)
    train, test = held_out(video, 'somewhere')
    train, test = ({int(frame.name) for frame in split} for split in (train, test))
    assert test and train and not train & test
    assert 0.05 * count <= len(test) <= max(3, 0.2 * count)
    starts = [index for index in test if index - 1 not in test]
    assert len(starts) <= max(1, count / 80)         # blocks, not single frames
    gap = min(abs(i - j) for i in train for j in (min(test), max(test), *starts))
    assert gap >= 1 + max(1, np.sqrt(count) // 4)
    assert not {index + step for index in test for step in (-1, 1)} & train


def test_video_is_told_by_stamps_or_small_steps():
    assert is_video(list(frames(make_scene(60).T_world_cam)))
    assert not is_video(list(frames(photographs(60))))
    assert is_video(list(frames(photographs(60), stamps=True)))
    turning = np.repeat(np.eye(4)[None], 60, 0)
    angle = np.linspace(0, 6, 60)
    turning[:, 0, 0] = turning[:, 2, 2] = np.cos(angle)
    turning[:, 0, 2], turning[:, 2, 0] = np.sin(angle), -np.sin(angle)
    turning[:, :3, 3] = np.random.default_rng(0).normal(0, 0.01, (60, 3))
    assert is_video(list(frames(turning)))


def test_photographs_hold_out_every_eighth():
    train, test = held_out(frames(photographs(60)), 'somewhere')
    assert [int(frame.name) for frame in test] == list(range(0, 60, 8))
    assert len(train) + len(test) == 60


def test_each_sequence_holds_out_its_own_block():
    T = make_scene(40).T_world_cam
    captured = frames(T, True, 'a/') + frames(T, True, 'b/') + frames(T[:3], True, 'c/')
    train, test = held_out(captured, 'somewhere')
    assert {frame.sequence for frame in test} == {'a/', 'b/'}
    assert {frame.sequence for frame in train} == {'a/', 'b/', 'c/'}


def test_too_few_frames_are_refused():
    with pytest.raises(AprlocError, match='somewhere: 7 posed images.*at least 8'):
        held_out(frames(make_scene(7).T_world_cam), 'somewhere')
    with pytest.raises(AprlocError, match='somewhere: 7 images are left to train on.*at least 8'):
        calibration_split(frames(make_scene(7).T_world_cam), 'somewhere')


def test_unknown_folder_lists_what_was_looked_for(tmp_path):
    (tmp_path / 'notes.txt').write_text('nothing')
    refused(tmp_path, 'transforms.json', 'dataset_train.txt', 'TrainSplit.txt', 'poses_bounds.npy', 'sparse/0',
            'rgb.txt', 'metadata.yaml', '.mcap')
    refused(tmp_path / 'notes.txt', 'known format')
    refused(tmp_path / 'none', 'no such file')
