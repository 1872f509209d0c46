"""`aprloc adapt`: a drive of the mapped place without any poses teaches the map's regressor."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aprloc_ros.covariance import prior_covariance
from aprloc_ros.errors import AprlocError
from aprloc_ros.histogram import BINS
from aprloc_ros.manifest import Lesson, Manifest
from aprloc_ros.map_bundle import MapBundle, load_map, save_regressor
from aprloc_ros.refiners import fine_features
from aprloc_ros.scoring.truth_check import check_drive
from aprloc_ros.training.adapting.drive import FEWEST, answered, drive_frames
from aprloc_ros.training.adapting.exam import Exam, Mark, exam_split, passed, sit
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.evenly import evenly
from aprloc_ros.training.images.synthesis import Renderer
from aprloc_ros.training.images.views import Views, load_views, with_lenses
from aprloc_ros.training.later_drive import MOST_FAR, ask_some
from aprloc_ros.training.own_frames import is_own
from aprloc_ros.training.posing.sources.opening import open_source
from aprloc_ros.training.posing.workplace import fingerprint
from aprloc_ros.training.resumption import claim, gone_at_the_end, resume
from aprloc_ros.training.stages.adaptation import METHODS, Material, adapt_regressor, rehearse, rendered_views
from aprloc_ros.training.stages.loop import make_fabric
from aprloc_ros.training.stages.matching import (
    FieldFeatureMatching,
    Matching,
    PhotometricMatching,
    RegressorFeatureMatching,
)

_RENDERED_SIDE = 60        # pixels: of views that the field renders to be rehearsed or examined
_REMEMBERED = 60           # of the map's own views that examine
_FORGETTING = 0.1          # by what share the regressor may be worse on these
_BELIEVED = 0.25           # share of the drive's images: of fewer believed answers it is no drive of this place


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came of a drive: the taught regressor, and what each exam says of it."""

    regressor: nn.Module
    exams: tuple[Exam, ...]
    before: tuple[Mark, ...]
    after: tuple[Mark, ...]
    images: int
    believed: int

    @property
    def good(self) -> bool:
        return all(map(passed, self.exams, self.before, self.after))

    def describe(self) -> str:
        lines = zip(self.exams, self.before, self.after)
        return '; '.join(f'{exam.name}: {before} before, {after} after' for exam, before, after in lines)


def adapt_map(directory: Path, data: Path, method: str = 'pseudo', check: Path | None = None, seed: int = 0,
              device: str = 'auto', say=print) -> Manifest:
    """Teach the regressor of a map with the images of `data`, and give the map the taught one where it is better.

    check: a capture with poses in the map's frame that decides it; without one a fifth of the drive's own believed answers
    does. Raises AprlocError, and leaves the map as it was, where the taught one is not better, where the map does not know
    the place of the drive, and where it lacks what the method needs. An interrupted call goes on when it is repeated.
    """
    claim(directory)
    bundle, source = load_map(directory, device), open_source(data)
    work_dir = directory.with_name(f'.{directory.name}.adapting')
    resume(work_dir, f'{fingerprint(data, None, seed)} {method} {check} {bundle.sha256}', say)
    with gone_at_the_end(work_dir):
        frames, believed = answered(bundle, drive_frames(source, bundle.manifest, work_dir, say), work_dir, device)
        say(f'the map believes its answer to {int(believed.sum())} of {len(frames)} images, as it would to those of a place that looks alike')
        checked = check and _checked(check, bundle, device, say)
        found = adaptation(bundle, frames, believed, method, checked, work_dir, seed, device)
        say(found.describe())
        if not found.good:
            raise AprlocError(f'{method}: the taught regressor is not better; the map {bundle.manifest.name} stays as it was')
        manifest = _taught(bundle.manifest, found, method, Path(data).name)
        save_regressor(directory, manifest, found.regressor)
    return manifest


def _checked(check: Path, bundle: MapBundle, device: str, say) -> tuple[Frame, ...]:
    """Frames with poses that trained nothing: of the capture that built the map those that its build held out to calibrate.

    Raises AprlocError where the map contradicts the poses.
    """
    capture = read_capture(check)
    frames = calibration_split(capture.train, capture.name)[1] if is_own(bundle, capture) else (*capture.train, *capture.test)
    frames = with_lenses(frames, bundle.manifest.lenses)
    text = check_drive(ask_some(bundle, frames, device), bundle.manifest, MOST_FAR)
    if text.startswith('WARNING'):
        raise AprlocError(f'--check {check}: {text.removeprefix("WARNING: ")}: it takes poses in the frame of the map')
    say(f'check: {text.removeprefix("drive: ")}')
    return frames


def adaptation(bundle: MapBundle, frames: tuple[Frame, ...], believed: Tensor, method: str, checked: tuple[Frame, ...] | None,
               work_dir: Path, seed: int, device: str) -> Adaptation:
    """Of the map in `bundle`, which stays as it is. frames: of the drive, in order, with the map's answers as their poses;
    believed [N] (bool); checked: frames with true poses that examine, None: a fifth of the believed ones does.
    """
    fabric, m, count = make_fabric(device), bundle.manifest, int(believed.sum())
    if count < max(FEWEST, _BELIEVED * len(frames)):
        raise AprlocError(f'the map {m.name} believes its answer to only {count} of {len(frames)} images: are they of its place, in '
                          'a light and of a camera that it knows? It stays as it was')
    views = load_views(frames, m.camera)
    known = believed.nonzero()[:, 0]
    teaching, examining = exam_split(len(known)) if checked is None else (torch.arange(len(known)), None)
    drive = Exam('believed answers', views[known[examining]]) if checked is None else Exam('check', load_views(checked, m.camera))
    renderer = Renderer(bundle.field, m.scene, m.camera, _RENDERED_SIDE)
    exams = (drive, *_memory(bundle, renderer, views.histograms))
    taught = known[teaching] if method == 'pseudo' else _between(known[teaching], ~believed)
    material = _material(bundle, renderer, views[taught], tuple(frames[i] for i in taught), method, seed)
    before = tuple(sit(exam, bundle.regressor, m.scene, fabric.device) for exam in exams)
    regressor = adapt_regressor(fabric, bundle.regressor, material, m.scene, METHODS[method], seed, work_dir)
    after = tuple(sit(exam, regressor, m.scene, fabric.device) for exam in exams)
    return Adaptation(regressor, exams, before, after, len(frames), count)


def _between(teaching: Tensor, unknown: Tensor) -> Tensor:
    """Indices of images that teach, with those whose answers were not believed [N] (bool)."""
    return torch.cat([teaching, unknown.nonzero()[:, 0]]).sort().values


def _memory(bundle: MapBundle, renderer: Renderer, histograms: Tensor) -> list[Exam]:
    """The map's own views as the field shows them: what the drive does not come by must not be forgotten."""
    if bundle.points is None:
        return []
    poses = bundle.points.view_poses
    poses = poses[evenly(len(poses), _REMEMBERED)]
    views = rendered_views(renderer, poses, histograms.mean(0).expand(len(poses), BINS))
    return [Exam("the map's views, rendered", views, _FORGETTING)]


def _material(bundle: MapBundle, renderer: Renderer, views: Views, frames: tuple[Frame, ...], method: str, seed: int) -> Material:
    config, rehearsal = METHODS[method], None
    if config.rehearsed:
        poses = views.T_map_cam if bundle.points is None else torch.cat([bundle.points.view_poses, views.T_map_cam])
        with tqdm(total=config.rehearsed, desc='rendering views to rehearse', leave=False, mininterval=2.0) as bar:
            rehearsal = rehearse(renderer, poses, views.histograms, config, seed, bar.update)
    is_labelled = method == 'pseudo'
    matching = None if is_labelled else _matching(bundle, views, frames, method)
    return Material(views, torch.full((len(views),), is_labelled), matching, rehearsal)


def _matching(bundle: MapBundle, views: Views, frames: tuple[Frame, ...], method: str) -> Matching:
    """'feature' takes those of a DFNet, as the paper does, and what 'descriptors' takes of any other regressor's map."""
    m, side, device = bundle.manifest, METHODS[method].short_side, next(bundle.field.parameters()).device
    if method == 'photometric':
        return PhotometricMatching(bundle.field, m.scene, views, side)
    if method == 'feature' and hasattr(bundle.regressor, 'features'):
        return RegressorFeatureMatching(bundle.field, m.scene, views,
                                        lambda images: bundle.regressor.features(images.to(device), (0,))[0], side)
    if bundle.extractor is None or not bundle.field.feature_channels:
        raise AprlocError(f'the map {m.name} has no features to match; use --method photometric or pseudo, or rebuild it with aprloc build')
    describe = fine_features(bundle.extractor)
    return FieldFeatureMatching(bundle.field, m.scene, load_views(frames, m.descriptors.camera),
                                lambda images: describe(images.to(device))[0], side)


def _taught(manifest: Manifest, found: Adaptation, method: str, data: str) -> Manifest:
    """The regressor's covariance is that of all exams together; its accuracy on frames of the build is not known any more."""
    before, after = found.before[0], found.after[0]
    lesson = Lesson(method, data, found.images, found.believed, found.exams[0].name, len(after.xi), before.median_m,
                    before.median_deg, after.median_m, after.median_deg)
    accuracy = {key: value for key, value in manifest.accuracy.items() if not key.startswith('regressor_')}
    return replace(manifest, lessons=(*manifest.lessons, lesson), accuracy=accuracy,
                   covariance=prior_covariance(torch.cat([mark.xi for mark in found.after])))
