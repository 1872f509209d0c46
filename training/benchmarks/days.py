"""`aprloc benchmark days`: a map on another day than its own, and in another light: what is answered, and what wrongly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.camera import Camera
from aprloc_ros.catalogue import find_map
from aprloc_ros.covariance import residuals
from aprloc_ros.device import resolve_device
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.scoring.evaluation import RECALL_BOUNDS
from aprloc_ros.scoring.uncertainty import held_share, squared_mahalanobis
from aprloc_ros.training.benchmarks.measures.relighting import Relighting, relightings
from aprloc_ros.training.benchmarks.rivals.feature_map import FeatureMap, LocalFeatures
from aprloc_ros.training.benchmarks.rivals.sift import SIFT
from aprloc_ros.training.benchmarks.rivals.xfeat import pretrained_xfeat
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Capture, Frame
from aprloc_ros.training.hardware import describe_hardware
from aprloc_ros.training.images.views import with_lenses
from aprloc_ros.training.presets import PRESETS
from aprloc_ros.training.structure.triangulation import triangulate

_REFINERS = ('nre', 'align')
_BOUNDS = ('5cm5deg', '25cm2deg')   # of a right answer
_WRONG_M, _WRONG_DEG = RECALL_BOUNDS['50cm5deg']


@dataclass(frozen=True, eq=False)
class Answer:
    """What is published of an image."""

    T_map_cam: Tensor            # [4, 4]
    covariance: Tensor | None    # [6, 6]; None of a method that claims nothing


# An image [H, W, 3] uint8 and what took it -> an answer, or none.
Method = Callable[[np.ndarray, Camera], Answer | None]


def benchmark_days(options):
    """Queries of other days, and the held-out images relit: answered, right, and wrong, by the map and by local features."""
    bundle, capture = load_map(find_map(options.name, options.map_dir), options.device), read_capture(options.data)
    held_out = capture.test[::options.every]
    feature_maps = first_drive(capture, local_features(), options.work)
    print(f'{options.name}, held-out images of {capture.name} and other days, on {describe_hardware(resolve_device(options.device))}')
    print(f'each: answered / right in {" / in ".join(_BOUNDS)}, of all; wrong, of the answered; median cm / deg of '
          'the answered, and how many of them the 95 % ellipsoid holds\n')
    columns = list(methods(bundle, feature_maps, options.device))
    _header('day of the query', columns)
    for name, frames in {'its own': held_out, **{path.name: _drive(path)[::options.every] for path in options.days}}.items():
        _row(options.name, name, bundle, feature_maps, frames, options.device)
    print()
    _header('held-out images, relit', columns)
    for name, relight in relightings().items():
        _row(options.name, name, bundle, feature_maps, held_out, options.device, relight)


def local_features() -> dict[str, LocalFeatures]:
    """Those to compare with, by the name of their column."""
    xfeat = pretrained_xfeat()
    return {'SIFT': SIFT, **({'XFeat (pretrained) + PnP': xfeat} if xfeat else {})}


def first_drive(capture: Capture, features: Mapping[str, LocalFeatures], work: Path) -> dict[str, FeatureMap]:
    """Maps of the training images of the first drive alone, all of the same points."""
    frames = tuple(frame for frame in capture.train if frame.sequence == capture.train[0].sequence)
    found = triangulate(frames, work / 'colmap', PRESETS['small'].max_sift_frames)
    frames = with_lenses(frames, found.lenses)
    return {name: FeatureMap(of, frames, found.points) for name, of in features.items()}


def _drive(path: Path) -> tuple[Frame, ...]:
    """All frames of a capture that no map was trained on, in their order."""
    capture = read_capture(path)
    return tuple(sorted(capture.train + capture.test, key=lambda frame: (frame.sequence, frame.stamp_s or 0.0, frame.name)))


def methods(bundle: MapBundle, feature_maps: Mapping[str, FeatureMap], device: str) -> dict[str, Method]:
    """What is asked about an image, by name: the map's refiners behind their gates, its regressor, local features."""
    def of(localizer: Localizer) -> Method:
        def ask(image, camera):
            estimate = localizer.localize(image, camera)
            return None if estimate.status == 'rejected' else Answer(estimate.T_map_cam, estimate.covariance)
        return ask

    def of_features(known: FeatureMap) -> Method:
        def ask(image, camera):
            T_map_cam = known.localize(image, camera)
            return None if T_map_cam is None else Answer(T_map_cam, None)
        return ask
    refiners = [name for name in _REFINERS if name in bundle.manifest.refiners]
    return {**{name: of(Localizer(bundle, device, name)) for name in refiners},
            'regressor alone': of(Localizer(bundle, device, 'none')),
            **{name: of_features(known) for name, known in feature_maps.items()}}


def _header(images: str, methods: Sequence[str]):
    print(f'| day of the map | {images} | frames | {" | ".join(methods)} |\n|' + '---|' * (3 + len(methods)))


def _row(of_map: str, light: str, bundle: MapBundle, feature_maps: Mapping[str, FeatureMap], frames: Sequence[Frame], device: str,
         relight: Relighting = lambda image, rng: image):
    """A cell for each method; every image is relit by chance of its own."""
    frames = with_lenses(tuple(frames), bundle.manifest.lenses)
    asked = methods(bundle, feature_maps, device)
    found: dict[str, list[Answer | None]] = {name: [] for name in asked}
    for index, frame in enumerate(tqdm(frames, desc=light, leave=False, mininterval=2.0)):
        image = relight(frame.read_image(), np.random.default_rng(index))
        for name, ask in asked.items():
            found[name].append(ask(image, frame.camera))
    cells = [_cell(answers, frames) for answers in found.values()]
    print(f'| {of_map} | {light} | {len(frames)} | {" | ".join(cells)} |', flush=True)


def _cell(answers: list[Answer | None], frames: Sequence[Frame]) -> str:
    """Answered and right of all frames; wrong, the median error, and how many the 95 % ellipsoid holds, of the answered."""
    answered = [(answer, frame.T_map_cam) for answer, frame in zip(answers, frames, strict=True) if answer is not None]
    if not answered:
        return '0 / 0 / 0 %; -; -'
    T, T_truth = torch.stack([answer.T_map_cam for answer, _ in answered]), torch.stack([truth for _, truth in answered])
    error_m, error_deg = pose_errors(T, T_truth)
    right = [int(((error_m <= m) & (error_deg <= deg)).sum()) for m, deg in (RECALL_BOUNDS[bound] for bound in _BOUNDS)]
    wrong = int(((error_m > _WRONG_M) | (error_deg > _WRONG_DEG)).sum())
    shares = ' / '.join(f'{100 * count / len(frames):.0f}' for count in (len(answered), *right))
    claims = [answer.covariance for answer, _ in answered if answer.covariance is not None]
    held = f'; {held_share(squared_mahalanobis(residuals(T, T_truth), torch.stack(claims)), 0.95):.0%} held' if claims else ''
    return f'{shares} %; {100 * wrong / len(answered):.1f} %; {100 * error_m.median():.2f} / {error_deg.median():.3f}{held}'
