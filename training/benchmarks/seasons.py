"""`aprloc benchmark seasons`: a path that was photographed twice, frame for frame, and never posed the second time."""

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import load_map
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.training.datasets import read_capture

_NEAR_FRAMES = 3
_TURNED_DEG = 45.0   # a view that looks elsewhere is none of the same place


def benchmark_seasons(options):
    """Images of the same names as the map's, taken at the same places in another season: how many frames off the answers are."""
    localizer = Localizer(load_map(find_map(options.name, options.map_dir), options.device), options.device)
    capture = read_capture(options.data)
    known = {Path(frame.name).stem: frame.T_map_cam for frame in sorted((*capture.train, *capture.test), key=lambda f: f.name)}
    paths = [path for path in sorted(options.queries.iterdir()) if path.stem in known]
    camera, poses = capture.train[0].camera, torch.stack(list(known.values()))
    answers = {path.stem: localizer.localize(read_image(path), camera) for path in tqdm(paths, leave=False, mininterval=2.0)}
    off = {stem: abs(_frame_of(answer.T_map_cam, poses) - list(known).index(stem))
           for stem, answer in answers.items() if answer.status != 'rejected'}
    wrong = [stem for stem, frames in off.items() if frames > _NEAR_FRAMES]
    print(f'{options.name}, {len(paths)} images of {options.queries}: {len(off)} answered, {len(off) - len(wrong)} within '
          f'{_NEAR_FRAMES} frames of their own, {len(wrong)} farther off{": " if wrong else ""}{", ".join(map(str, wrong))}')


def _frame_of(T_map_cam: Tensor, poses: Tensor) -> int:
    """Number of the nearest of the poses [N, 4, 4] that look about the same way."""
    alike = (T_map_cam[:3, 2] @ poses[:, :3, 2].T) > torch.cos(torch.deg2rad(torch.tensor(_TURNED_DEG)))
    distance = (poses[:, :3, 3] - T_map_cam[:3, 3]).norm(dim=1)
    return int(torch.where(alike, distance, torch.inf).argmin())
