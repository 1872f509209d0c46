"""`python -m aprloc_ros.training.place.sheet FILE.jpg`: one view of the demo place on each of its days."""

import argparse
from pathlib import Path

import cv2
import numpy as np

from aprloc_ros.training.place.capture import CAMERA
from aprloc_ros.training.place.court import build_court
from aprloc_ros.training.place.days import DAYS, Day
from aprloc_ros.training.place.drive import camera_poses
from aprloc_ros.training.place.raycast import Renderer
from aprloc_ros.training.place.sensor import develop

_EYE, _YAW, _PITCH = (-5.8, -4.6, 1.25), 1.1, 0.05     # across the court, to the library
_SETTLING = 12      # views until the exposure is what the metering asks for
_ACROSS = 4


def photograph(day: Day) -> np.ndarray:
    """[H, W, 3] uint8 of a day, named."""
    T_map_cam, = camera_poses(np.array([_EYE]), *(np.array([angle]) for angle in (_YAW, _PITCH, 0.0)))
    view, _ = Renderer(build_court(day=day)).render(CAMERA, T_map_cam)
    *_, image = develop([view] * _SETTLING, day.sensor, 1.0, np.random.default_rng(0))
    cv2.putText(image, day.name, (8, 20), cv2.FONT_HERSHEY_DUPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def main():
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', type=Path)
    path = parser.parse_args().file
    images = [photograph(day) for day in DAYS.values()]
    images += [np.zeros_like(images[0])] * (-len(images) % _ACROSS)
    sheet = np.concatenate([np.concatenate(images[i:i + _ACROSS], 1) for i in range(0, len(images), _ACROSS)])
    if not cv2.imwrite(str(path), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85]):
        parser.error(f'{path}: cannot be written; name a .jpg in a folder that exists')


if __name__ == '__main__':
    main()
