"""The images of a drive whose poses nobody knows, as frames."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.posing.lenses import of_the_map
from aprloc_ros.training.posing.pose import choose
from aprloc_ros.training.posing.sources.shots import Shot, Source
from aprloc_ros.training.stages.loop import write_atomically

FEWEST = 8
_ANSWERS_A_SAVE = 25


def drive_frames(source: Source, manifest: Manifest, work_dir: Path, say) -> tuple[Frame, ...]:
    """The images of a folder, a video or a bag, in order; their poses mean nothing.

    As many as the movement asks for, as `aprloc pose` takes them; work_dir remembers which, and holds them. Raises AprlocError
    for fewer than FEWEST, for images that show nothing, and for those of which the map cannot know the camera.
    """
    chosen = choose(source, None, work_dir)
    if len(chosen.indices) < FEWEST:
        raise AprlocError(f'{source.path}: {len(chosen.indices)} images that differ; at least {FEWEST} are needed to teach anything, some '
                          'hundred are better')
    frames = tuple(_frame(shot, work_dir / 'images', manifest) for shot in source.take(chosen.indices, work_dir / 'images'))
    for text in (chosen.text, *source.notes):
        say(text)
    return frames


def _frame(shot: Shot, folder: Path, manifest: Manifest) -> Frame:
    camera = of_the_map(shot, manifest)
    return Frame(shot.name, folder / shot.name, torch.eye(4, dtype=torch.float64), camera, shot.stamp_s, shot.sequence)


def answered(bundle: MapBundle, frames: tuple[Frame, ...], work_dir: Path, device: str) -> tuple[tuple[Frame, ...], Tensor]:
    """The frames with the poses that the map answers, each asked by itself, and which of them its gate believes [N] (bool).

    work_dir keeps the answers: an interrupted run goes on. Raises AprlocError for a map that has but its regressor.
    """
    cache = work_dir / 'answers.pt'
    answers = torch.load(cache, weights_only=True) if cache.exists() else {'poses': [], 'believed': []}
    localizer, done = Localizer(bundle, device), len(answers['poses'])
    if localizer.refiner_name == 'none':
        raise AprlocError(f'the map {bundle.manifest.name} has no refiner whose answers could be believed; rebuild it with aprloc build')
    for index, frame in enumerate(tqdm(frames[done:], initial=done, total=len(frames), desc='asking the map', unit='image',
                                       leave=False, mininterval=2.0), done + 1):
        estimate = localizer.localize(frame.read_image(), frame.camera)
        answers['poses'].append(estimate.T_map_cam)
        answers['believed'].append(estimate.status == 'refined')
        if index % _ANSWERS_A_SAVE == 0 or index == len(frames):
            write_atomically(cache, answers)
    posed = tuple(replace(frame, T_map_cam=T) for frame, T in zip(frames, answers['poses'], strict=True))
    return posed, torch.tensor(answers['believed'])
