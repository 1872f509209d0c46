"""`aprloc extend`: what a later drive adds to a map, without the images that built it."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

import aprloc_ros
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import distances
from aprloc_ros.localizer import Localizer
from aprloc_ros.manifest import Drive, Manifest, Provenance
from aprloc_ros.map_bundle import MapBundle, load_map, save_map
from aprloc_ros.points import MapPoints
from aprloc_ros.scoring.evaluation import evaluate_map
from aprloc_ros.training.calibration.comparison import with_what_holds
from aprloc_ros.training.calibration.questions import questions
from aprloc_ros.training.calibration.refiner_calibration import (
    RefinerScores,
    calibrate_refiners,
    regressor_covariance,
    with_refiners,
)
from aprloc_ros.training.datasets.capture import Capture, Frame, SparsePoints
from aprloc_ros.training.datasets.splits import calibration_split
from aprloc_ros.training.drive_scores import describe_drive, drive_accuracy
from aprloc_ros.training.foundation import Foundation, find_foundation
from aprloc_ros.training.images.views import Views, load_views, with_lenses
from aprloc_ros.training.later_drive import check_belongs, read_drive
from aprloc_ros.training.memory import Memory, known_drives, rendered_memory
from aprloc_ros.training.own_frames import check_own
from aprloc_ros.training.presets import PRESETS
from aprloc_ros.training.request import content_hash, taken_as
from aprloc_ros.training.resumption import claim, gone_at_the_end, resume
from aprloc_ros.training.stages.coordinates import train_coordinates
from aprloc_ros.training.stages.growth import grown
from aprloc_ros.training.stages.loop import make_fabric, write_atomically
from aprloc_ros.training.stages.patches import build_patches
from aprloc_ros.training.stages.points import build_points
from aprloc_ros.training.stages.rehearsal import joined_views, rehearse
from aprloc_ros.training.structure.sightings import Sightings

_BOUND = 1.5            # of a map's points, over those of its preset
_SHARE = 0.5            # of the preset's points that a drive may add
_MOST_LOST = 0.01       # of what the map already knew


@dataclass(frozen=True, eq=False)
class Extension:
    """One later drive, and the map it comes to."""

    bundle: MapBundle
    drive: Capture
    memory: Memory
    work_dir: Path
    device: str
    say: Callable[[str], None]
    posed_by_map: bool   # what the map answered is then all that is known of the drive's poses

    @cached_property
    def _split(self) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
        return calibration_split(self.drive.train, self.drive.name)

    @cached_property
    def foundation(self) -> Foundation:
        """Points and lenses of the drive alone. AprlocError where its poses contradict its images, or show too few points."""
        cache = self.work_dir / 'foundation.pt'
        if not cache.exists():
            found = find_foundation(self.drive, self._split[0], self.work_dir, self.preset.max_sift_frames, self.say)
            write_atomically(cache, found.to_list())
        found = Foundation.from_list(torch.load(cache, weights_only=True))
        if found.reason:
            raise AprlocError(found.reason)
        return found

    @property
    def preset(self):
        return PRESETS[self.bundle.manifest.build.preset]

    def known(self, frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
        """Frames with what is known of their cameras."""
        return with_lenses(frames, self.foundation.lenses)

    @property
    def fit(self) -> tuple[Frame, ...]:
        return self.known(self._split[0])

    @property
    def calibration(self) -> tuple[Frame, ...]:
        return self.known(self._split[1])

    @property
    def unseen(self) -> tuple[Frame, ...]:
        """What the drive's score is of."""
        return self.known(self.drive.test) or self.calibration

    @cached_property
    def observed(self) -> SparsePoints:
        """What the drive's frames see: points of its own, then those of the map; nothing of frames that were not triangulated."""
        own, points = self.foundation.points, self.bundle.points
        known = Sightings(points.xyz, points.view_poses, [points.of_view(view) for view in range(len(points.view_poses))])
        again = []
        for index in own.observations[:, 0].unique().tolist():
            seen = known.visible(self.fit[index].T_map_cam, self.fit[index].camera)
            again.append(torch.stack([torch.full_like(seen, index), len(own.xyz) + seen], 1))
        return SparsePoints(torch.cat([own.xyz, points.xyz]), torch.cat([own.observations, *again]))

    @cached_property
    def views(self) -> Views:
        """The drive's, as small as the map's descriptors take them."""
        return load_views(self.fit, self.bundle.manifest.descriptors.camera)

    @cached_property
    def extractor(self) -> torch.nn.Module:
        """The map's, after it learned the looks of the drive and rehearsed its own."""
        return rehearse(make_fabric(self.device), copy.deepcopy(self.bundle.extractor), *self._both, self.bundle.points,
                        self.preset.descriptors, self.bundle.manifest.data.seed, self.work_dir)

    @cached_property
    def regressor(self) -> torch.nn.Module:
        """The map's; one that looks through the extractor learns anew what it sees there."""
        spec, seed = self.bundle.manifest.regressor, self.bundle.manifest.data.seed
        if spec.kind != 'coordinates':
            return self.bundle.regressor
        views, points = self._both
        config = replace(self.preset.regressor, kind=spec.kind, arguments=dict(spec.arguments))
        return train_coordinates(make_fabric(self.device), self.extractor, views, load_views(self.unseen, self.views.camera), points,
                                 self.bundle.manifest.scene, config, self.preset.coordinates, self.preset.descriptors, seed,
                                 self.work_dir)

    @cached_property
    def _both(self) -> tuple[Views, SparsePoints]:
        """Views of the drive and of what was there before, and what they see."""
        points, shown = self.bundle.points, self.memory.shown
        gone = load_views(shown, self.views.camera)
        view = distances(gone.T_map_cam.flatten(1), points.view_poses.flatten(1)).argmin(1)
        seen = [torch.stack([torch.full_like(each, len(self.fit) + index), len(self.foundation.points.xyz) + each], 1)
                for index, each in enumerate(points.of_view(number) for number in view.tolist())]
        return joined_views(self.views, gone), SparsePoints(self.observed.xyz, torch.cat([self.observed.observations, *seen]))

    def points(self) -> MapPoints:
        """The map's and the drive's."""
        added = build_points(self.extractor, self.views, self.observed, int(_SHARE * self.preset.map_points))
        added = replace(added, patches=build_patches(added, self.fit, int(_SHARE * self.preset.map_patches)))
        return grown(self.bundle.points, added, max(len(self.bundle.points), int(_BOUND * self.preset.map_points)))

    def finished(self) -> MapBundle:
        """The map as it would be written, calibrated on this drive and on what is left of those before."""
        points = self.points()
        self.say(f'points: {len(self.bundle.points)} before, {len(points)} now')
        manifest = replace(self.bundle.manifest, lenses=(*self.bundle.manifest.lenses, *self.foundation.lenses))
        draft = save_map(self.work_dir / 'draft', manifest, self.regressor, self.bundle.field, self.extractor, points)
        unseen, bundle = (*self.memory.unseen, *self.calibration), load_map(draft, self.device)
        asked = questions(unseen, self.memory.trained, manifest.descriptors.camera)
        bundle = replace(bundle, manifest=replace(bundle.manifest, covariance=regressor_covariance(bundle, unseen, self.device),
                                                  data=manifest.data.calibrated_on('', '')))
        found = with_what_holds(self.bundle.manifest.refiners, calibrate_refiners(bundle, asked, manifest.data.seed, self.device, self.say),
                                bundle.manifest.covariance, self.say)
        return with_refiners(bundle, self._no_surer(found) if self.posed_by_map else found)

    def _no_surer(self, found: dict[str, RefinerScores]) -> dict[str, RefinerScores]:
        """Refiners that claim no less error than before: of that, the map's own answers to a drive know nothing."""
        known = self.bundle.manifest.refiners
        self.say('the poses of the drive are the map\'s own: it claims no less error than before; aprloc calibrate it on a drive with poses')
        return {name: replace(one, spec=replace(one.spec, covariance=one.spec.covariance.no_surer_than(known[name].covariance)))
                if name in known else one for name, one in found.items()}


def extend_map(directory: Path, drives: Sequence[Path], device: str = 'auto', say=print) -> MapBundle:
    """Teach a map a later drive; it replaces the old map once it is known to be no worse on what that knew.

    drives: one that is new to the map, with poses in its frame; with it any that taught the map, so that these serve to keep
    what it knows. Raises AprlocError, and leaves the map as it was, where drive and map do not belong together, and where the
    map would get worse.
    """
    claim(directory)
    bundle = load_map(directory, device)
    if bundle.points is None:
        raise AprlocError(f'the map {bundle.manifest.name} has no descriptors, which is what a drive adds to; rebuild it with '
                          'aprloc build')
    folder = directory.parent / '.building' / f'{directory.name}.extend'   # no map has a dot in its name
    with gone_at_the_end(folder):
        extended = _extended(bundle, drives, folder, device, say)
        save_map(directory, extended.manifest, extended.regressor, extended.field, extended.extractor, extended.points,
                 {path.name: path.read_bytes() for path in directory.glob('*.csv')})
    return extended


def _extended(bundle: MapBundle, drives: Sequence[Path], folder: Path, device: str, say) -> MapBundle:
    captures = [read_drive(path, bundle, folder / 'drives' / str(number), device, say) for number, path in enumerate(drives)]
    hashes = [content_hash(capture) for capture in captures]
    for capture in (capture for capture, each in zip(captures, hashes) if each in bundle.manifest.data.hashes):
        check_own(bundle, capture)
    known, drive = known_drives(bundle.manifest, captures)
    drive = replace(drive, **{part: with_lenses(getattr(drive, part), bundle.manifest.lenses) for part in ('train', 'test')})
    work_dir = folder / 'work'
    resume(work_dir, json.dumps([bundle.sha256, hashes, *map(taken_as, captures), aprloc_ros.__version__]), say)
    for note in drive.notes:
        say(note)
    say(check_belongs(bundle, drive, device))
    memory = known or rendered_memory(bundle, work_dir, say)
    extension = Extension(bundle, drive, memory, work_dir, device, say, drive.root.is_relative_to(folder))
    extended = extension.finished()
    return replace(extended, manifest=_scored(extension, extended))


def _scored(extension: Extension, extended: MapBundle) -> Manifest:
    """The manifest with the scores. AprlocError where the map knows less than before."""
    def score(bundle: MapBundle, frames: tuple[Frame, ...]) -> dict[str, float]:
        return drive_accuracy(evaluate_map(Localizer(bundle, extension.device), frames))

    drive, say = extension.drive, extension.say
    new = score(extended, extension.unseen)
    called = f'{drive.name} (by the map\'s own poses)' if extension.posed_by_map else drive.name
    say(f'{called}, before: {describe_drive(score(extension.bundle, extension.unseen))}')
    say(f'{called}, now:    {describe_drive(new)}')
    before, now = (score(bundle, extension.memory.scored) for bundle in (extension.bundle, extended))
    say(f'{extension.memory.text}, before: {describe_drive(before)}')
    say(f'{extension.memory.text}, now:    {describe_drive(now)}')
    if now['right'] < before['right'] - _MOST_LOST - 1e-9:
        raise AprlocError(f'the map would forget: {now["right"]:.1%} instead of {before["right"]:.1%} of {extension.memory.text} would '
                          f'be right; it stays as it was. Build it anew from all drives, if their images are there')
    entry = Drive(drive.format, drive.name, len(drive.train), len(drive.test), content_hash(drive),
                  {} if extension.posed_by_map else new)
    data = extended.manifest.data
    return replace(extended.manifest, data=replace(data, drives=(*(data.drives or (_first(data),)), entry)))


def _first(data: Provenance) -> Drive:
    return Drive(data.format, data.name, data.train_frames, data.test_frames, data.content_hash)
