"""The image of the guide, docs/example.jpg: a frame of the demo's held-out drive, and where its camera really was."""

from pathlib import Path

import torch

from aprloc_ros.training.place.drive import COURSES, plan_drive

EXAMPLE = Path(__file__).parent.parent / 'docs/example.jpg'
FRAME = 53


def example_pose():
    """T_map_cam [4, 4] float64, from the plan of the drive."""
    held_out = next(course for course in COURSES if course.split == 'test')
    return torch.from_numpy(plan_drive(held_out, 0).T_map_cam[FRAME])
