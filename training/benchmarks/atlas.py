"""`aprloc benchmark atlas`: does one network know in which map an image is, and is it as good there as a network of that map alone?"""

from pathlib import Path

import torch
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.device import resolve_device
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import Manifest
from aprloc_ros.map_bundle import load_map
from aprloc_ros.networks.ms_transformer import MSTransformer
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.make_atlas import Lesson, answers, parse_places, read_lesson
from aprloc_ros.training.own_frames import own_frames
from aprloc_ros.training.stages.loop import make_fabric
from aprloc_ros.training.stages.scenes import Looks, SceneTraining, collect_looks, train_scenes

_ASKED = 20   # images of each place that all maps are asked about


def benchmark_atlas(options):
    """The map that an image is said to be of, by the network and by the maps' own gates; poses of one network for all, and of one each."""
    sources, config = parse_places(options.places), SceneTraining()
    directories = {name: find_map(name, options.map_dir) for name in sources}
    lessons = {name: read_lesson(directories[name], data, config) for name, data in sources.items()}
    fabric = make_fabric(options.device)
    options.work.mkdir(parents=True, exist_ok=True)
    looks = {name: collect_looks(fabric, lesson.views, lesson.manifest.scene, config, 0, options.work / f'{name}.pt')
             for name, lesson in lessons.items()}
    together, seconds = _trained(fabric, list(looks.values()), config, options.work / 'all')
    print(f'{len(lessons)} maps, one network of {sum(p.numel() for p in together.parameters()) / 1e6:.2f} M parameters, trained in '
          f'{seconds:.0f} s on {describe_hardware(resolve_device(options.device))}; held-out images; median m / deg')
    print(f'| map | images | network names it | gates of all maps, {_ASKED} images: it / none / another | one network for all '
          '| one each | times | steps of one each, s |\n|' + '---|' * 8)
    gates = _believed_by(sources, directories, options.device)
    for index, (name, lesson) in enumerate(lessons.items()):
        own, own_seconds = _trained(fabric, [looks[name]], config, options.work / name)
        chosen, (joint, single) = answers(together, index, lesson)[0], (_medians(*each, lesson) for each in ((together, index), (own, 0)))
        print(f'| {name} | {len(chosen)} | {(chosen == index).double().mean():.1%} | {gates[name]} | {joint[0]:.3f} / {joint[1]:.2f} | '
              f'{single[0]:.3f} / {single[1]:.2f} | {joint[0] / single[0]:.2f} / {joint[1] / single[1]:.2f} | {own_seconds:.0f} |', flush=True)


def _trained(fabric, looks: list[Looks], config: SceneTraining, directory: Path) -> tuple[MSTransformer, float]:
    """And how long its steps took, in seconds."""
    directory.mkdir(exist_ok=True)
    network = train_scenes(fabric, looks, config, 0, directory)
    return network, torch.load(directory / 'scenes.ckpt', map_location='cpu', weights_only=True)['spent_s']


def _medians(network: MSTransformer, index: int, lesson: Lesson) -> tuple[float, float]:
    return tuple(errors.median().item() for errors in pose_errors(answers(network, index, lesson)[1], lesson.unseen.T_map_cam))


def _believed_by(sources: dict[str, Path], directories: dict[str, Path], device: str) -> dict[str, str]:
    """What naming the map costs nothing but time for: every map is asked, and the one that believes itself most is named."""
    bundles = {name: load_map(directory, device) for name, directory in directories.items()}
    askers = {name: Localizer(bundle, device) for name, bundle in bundles.items()}
    return {name: _shares(name, [_most_sure(frame, askers) for frame in tqdm(_some(bundles[name].manifest, data), leave=False,
                                                                             desc=f'asking all maps about {name}', mininterval=2.0)])
            for name, data in sources.items()}


def _some(manifest: Manifest, data: Path) -> tuple[Frame, ...]:
    _, calibration, test = own_frames(manifest, data)
    unseen = test or calibration
    return tuple(unseen[i] for i in evenly(len(unseen), _ASKED))


def _most_sure(frame: Frame, askers: dict[str, Localizer]) -> str | None:
    estimates = {name: asker.localize(frame.read_image(), frame.camera) for name, asker in askers.items()}
    scores = {name: estimate.score for name, estimate in estimates.items() if estimate.status == 'refined'}
    return max(scores, key=scores.get) if scores else None


def _shares(name: str, named: list[str | None]) -> str:
    right, none = (torch.tensor([each == what for each in named]).double().mean().item() for what in (name, None))
    return f'{right:.1%} / {none:.1%} / {max(0.0, 1 - right - none):.1%}'
