"""The moving picture of the README, of the demo's map: what the map shows is what the camera saw, and the way grows."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('pycolmap', reason='the benchmarks are part of the extra train')
from example_image import EXAMPLE, example_pose

from aprloc_ros.catalogue import find_map
from aprloc_ros.cli import main
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.bags import BagFrame, write_bag
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.scoring.evaluation import make_record
from aprloc_ros.training.benchmarks import film
from aprloc_ros.training.place.capture import CAMERA

COUNT = 3


@pytest.fixture
def bag(tmp_path):
    """A robot that stands still."""
    return write_bag(tmp_path / 'bag', [BagFrame((index + 1) * 10**8, read_image(EXAMPLE), CAMERA, example_pose())
                                        for index in range(COUNT)]) and tmp_path / 'bag'


@pytest.mark.parametrize('name', ['film.webp', 'film.gif'])
def test_the_picture_moves_and_the_map_shows_what_the_camera_saw(bag, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(film, 'CLOUD_RAYS', 2000)
    assert main(['benchmark', 'film', 'demo', '--bag', str(bag), '--out', str(tmp_path / name), '--every', '1']) == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.n_frames >= 1 and picture.info['loop'] == 0 and picture.height == film.HEIGHT
        frame = np.asarray(picture.convert('RGB'))
    assert f'{COUNT} frames of {frame.shape[1]}x{film.HEIGHT}' in capsys.readouterr().out
    query, rendering = (cv2.cvtColor(frame[30:, 320 * i:320 * (i + 1)], cv2.COLOR_RGB2GRAY).astype(float) for i in (0, 1))
    seen = cv2.cvtColor(read_image(EXAMPLE), cv2.COLOR_RGB2GRAY)[30:].astype(float)
    assert np.corrcoef(query.ravel(), seen.ravel())[0, 1] > 0.98
    assert np.corrcoef(rendering.ravel(), seen.ravel())[0, 1] > 0.8


def test_the_way_grows_along_the_truth(monkeypatch):
    monkeypatch.setattr(film, 'CLOUD_RAYS', 2000)
    T = torch.stack([example_pose()] * 40)
    T[:, 0, 3] += torch.linspace(-3, 3, 40)
    records = [make_record(str(index), index, pose, pose, 0.0, 'refined') for index, pose in enumerate(T)]
    plan = film.Plan(load_map(find_map('demo'), 'cpu'), T)
    red = [int((picture == film.ESTIMATE).all(2).sum()) for picture in (plan.draw(records[:n]) for n in (1, 20, 40))]
    assert red[0] < 20 < red[1] < red[2] - 20   # the first one is under the arrow
    aside = [dataclasses.replace(record, T_estimate=record.T_truth + 0) for record in records]
    for record in aside:
        record.T_estimate[1, 3] += 2.0
    on, off = (int((plan.draw(chosen) == film.TRUTH).all(2).sum()) for chosen in (records, aside))
    assert on < off   # estimates cover the truth where they are right
