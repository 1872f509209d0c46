"""`aprloc atlas`: one network learns the places of several maps, and which of them an image shows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aprloc_ros.atlas import KIND, AtlasManifest, Place, save_atlas
from aprloc_ros.catalogue import ATLAS, FILE_NAME, USER_MAPS, check_map_name, find_map
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import pose_errors
from aprloc_ros.manifest import Manifest, ModelSpec, read_manifest
from aprloc_ros.map_bundle import check_target
from aprloc_ros.networks import to_T
from aprloc_ros.networks.ms_transformer import SIDE, MSTransformer
from aprloc_ros.training.images.views import Views, common_camera, load_views
from aprloc_ros.training.own_frames import own_frames
from aprloc_ros.training.resumption import gone_at_the_end, resume
from aprloc_ros.training.stages.loop import make_fabric
from aprloc_ros.training.stages.scenes import SceneTraining, collect_looks, train_scenes

FEWEST = 2
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Lesson:
    """A map's place: what trains, and what is held out for the score."""

    manifest: Manifest
    views: Views
    unseen: Views

    @property
    def images_hash(self) -> str:
        """Of the images that train."""
        return hashlib.sha256(self.views.images.numpy().tobytes()).hexdigest()

    @property
    def content_hash(self) -> str:
        """Of these and their poses."""
        poses = self.manifest.scene.pose_to_scene(self.views.T_map_cam)
        return self.images_hash + hashlib.sha256(poses.numpy().tobytes()).hexdigest()


def make_atlas(name: str, sources: Mapping[str, Path], map_dir: Path | None = None, device: str = 'auto', seed: int = 0,
               weights: str = 'imagenet', config: SceneTraining | None = None, say=print) -> Path:
    """Make (or finish making) an atlas of maps and the captures that built them, by the maps' names; returns its directory.

    Raises AprlocError for fewer than two maps, an unknown one, and a capture that did not build its map.
    """
    check_map_name(name)
    if len(sources) < FEWEST:
        raise AprlocError(f'{len(sources)} map given; an atlas is of {FEWEST} at least: MAP=CAPTURE MAP=CAPTURE')
    maps, config = Path(map_dir or USER_MAPS).expanduser(), config or SceneTraining()
    target, work_dir = check_target(maps / name, ATLAS), maps / f'.{name}.atlas'
    lessons = [read_lesson(find_map(each, map_dir), data, config) for each, data in sources.items()]
    _check_different(dict(zip(sources, lessons)))
    resume(work_dir, f'{[lesson.content_hash for lesson in lessons]} {config} {seed} {weights}', say)
    with gone_at_the_end(work_dir):
        fabric = make_fabric(device)
        looks = [collect_looks(fabric, lesson.views, lesson.manifest.scene, config, seed, work_dir / f'{index}.pt', weights)
                 for index, lesson in enumerate(lessons)]
        network = train_scenes(fabric, looks, config, seed, work_dir, weights)
        places = tuple(_place(network, index, each, lesson) for index, (each, lesson) in enumerate(zip(sources, lessons)))
        for each in places:
            say(f'{each.map}: {each.accuracy["chosen"]:.1%} of {each.accuracy["frames"]:.0f} images are said to be of it, '
                f'{each.accuracy["median_m"]:.3f} m / {each.accuracy["median_deg"]:.2f} deg')
        save_atlas(target, AtlasManifest(name, ModelSpec(KIND, {'scenes': len(places), **config.arguments}), places), network)
    return target


def parse_places(texts: Sequence[str]) -> dict[str, Path]:
    """'MAP=CAPTURE' each -> the capture by the map's name. AprlocError for anything else."""
    for text in texts:
        if not all(text.partition('=')):
            raise AprlocError(f'{text!r} must be MAP=CAPTURE: the name of a map and the folder that it was built from')
    names = [text.partition('=')[0] for text in texts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise AprlocError(f'{twice} is given more than once; each map once, with the capture that it was built from')
    return {name: Path(path) for name, _, path in (text.partition('=') for text in texts)}


def read_lesson(directory: Path, data: Path, config: SceneTraining) -> Lesson:
    """Views of the size that the network sees; unseen are a capture's held-out frames, or those that calibrated the map."""
    manifest = read_manifest(directory / FILE_NAME)
    fit, calibration, test = own_frames(manifest, data)
    camera = common_camera(fit, config.arguments.get('side', SIDE))
    return Lesson(manifest, load_views(fit, camera), load_views(test or calibration, camera))


def _check_different(lessons: Mapping[str, Lesson]) -> None:
    """AprlocError for maps of the same images, a map under two names say: nothing could tell them apart."""
    names = {}
    for name, lesson in lessons.items():
        other = names.setdefault(lesson.images_hash, name)
        if other != name:
            raise AprlocError(f'{other} and {name} are of the same images, and no network can tell them apart; give one of them')


def _place(network: MSTransformer, index: int, name: str, lesson: Lesson) -> Place:
    chosen, T_map_cam = answers(network, index, lesson)
    error_m, error_deg = pose_errors(T_map_cam, lesson.unseen.T_map_cam)
    accuracy = {'chosen': (chosen == index).double().mean().item(), 'median_m': error_m.median().item(),
                'median_deg': error_deg.median().item(), 'frames': float(len(chosen))}
    return Place(name, lesson.manifest.data.content_hash, accuracy)


@torch.inference_mode()
def answers(network: MSTransformer, index: int, lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Of the unseen images which scene each is said to be of [N], and the pose in scene `index` [N, 4, 4]."""
    device = next(network.parameters()).device
    said = [network(part.to(device).float() / 255) for part in lesson.unseen.images.split(_AT_ONCE)]
    logits, poses = (torch.cat(column).float().cpu() for column in zip(*said, strict=True))
    return logits.argmax(1), lesson.manifest.scene.pose_to_map(to_T(poses[:, index]))
