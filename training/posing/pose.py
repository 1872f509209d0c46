"""`aprloc pose`: from images, a video or a bag to a capture with poses, by structure from motion."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.errors import AprlocError, Unwritten
from aprloc_ros.placement.map_frame import METRE
from aprloc_ros.training.datasets.files import is_seen
from aprloc_ros.training.datasets.formats.colmap_model import TIMES_FILE
from aprloc_ros.training.datasets.frame_file import write_frame
from aprloc_ros.training.posing import pairs
from aprloc_ros.training.posing.lenses import calibrated, colmap_camera, describe, doubts
from aprloc_ros.training.posing.mapping import Mapped, map_images
from aprloc_ros.training.posing.metres.choice import NO_WISHES, Metres, Wishes
from aprloc_ros.training.posing.metres.source import metres_of_source
from aprloc_ros.training.posing.posed import PosedImages, posed_images, transform
from aprloc_ros.training.posing.report import write_report
from aprloc_ros.training.posing.sources.opening import open_source
from aprloc_ros.training.posing.sources.selection import Selection, measure, select
from aprloc_ros.training.posing.sources.shots import Shot, Source
from aprloc_ros.training.posing.torn import check_torn
from aprloc_ros.training.posing.workplace import Workplace, check_new, fingerprint
from aprloc_ros.training.structure.colmap import load_pycolmap
from aprloc_ros.training.structure.features import extract
from aprloc_ros.training.structure.matching import match
from aprloc_ros.training.structure.vlad import likeness

RECORD_FILE = 'posing.json'
_FEWEST_SHARE = 0.6          # of the images: with fewer posed the capture is no picture of the place
_HELD_TOGETHER = 0.98        # of the images: where fewer find a place between the keys, these were too far apart
_PARTS_NAMED, _RUNS_NAMED = 3, 6
_EVERY = 3                   # of an image's features, by scale: enough to recognise it by


def pose(source: Path, out: Path, frames: int | None = None, seed: int = 0, wishes: Wishes = NO_WISHES,
         say: Callable[[str], None] = print) -> Path:
    """Pose the images of a source and write them as a COLMAP capture -> its path.

    frames: how many images to take, None for as many as the movement asks for; wishes: of metres and origin. Raises
    AprlocError in one line for a source that cannot be posed; then nothing is left.
    """
    if frames is not None and frames < 3:
        raise AprlocError(f'--frames {frames} is too few; structure from motion needs at least 3, a map some hundred')
    out, opened = check_new(out), open_source(source)
    if is_seen(out.resolve(), opened.path.resolve()):
        raise AprlocError(f'{out} lies in {opened.path}, whose images it would be among; choose a folder beside it')
    place = Workplace(out, fingerprint(opened.path, frames, seed), say)
    try:
        return _pose(opened, place, frames, seed, wishes, say)
    except Unwritten:   # what is there goes on once there is room
        raise
    except AprlocError:
        if not place.is_posed:   # the same request would meet the same end; one with other wishes goes on
            place.abandon()
        raise


def _pose(source: Source, place: Workplace, frames: int | None, seed: int, wishes: Wishes, say: Callable[[str], None]) -> Path:
    pycolmap = load_pycolmap()
    chosen = choose(source, frames, place.folder)
    say(chosen.text)
    shots = {shot.name: shot for shot in tqdm(source.take(chosen.indices, place.images), total=len(chosen.indices),
                                              desc='taking', unit='image', leave=False, mininterval=2.0)}
    for text in (*source.notes, *describe(shots.values())):
        say(text)
    if not place.database.is_file():   # what is there stays, whatever is wished for
        wishes.check_names(tuple(shots))
        lenses = {optics: colmap_camera(pycolmap, optics) for optics in dict.fromkeys(shot.optics for shot in shots.values())}
        extract(pycolmap, place.database, place.images, {name: lenses[shot.optics] for name, shot in shots.items()}, place.masks)
    declared = calibrated(shots.values())
    mapped, alike = _structure(pycolmap, place, list(shots.values()), chosen, set(declared), seed, say)
    _check_whole(mapped, list(shots))
    torn = check_torn(pycolmap, mapped.reconstruction, place.database, shots, chosen.is_video)
    place.is_posed = True
    metres = _to_metres(pycolmap, mapped, posed_images(mapped.reconstruction, shots, place.images, source.path), wishes)
    for text in (*filter(None, [torn]), *doubts(pycolmap, mapped.reconstruction, declared), *metres.lines):
        say(text)
    facts = _facts(mapped, shots, chosen, alike, metres, torn)
    _write(mapped, shots, metres, place.folder / 'capture')
    record = {'request': fingerprint(source.path, frames, seed), 'source': str(source.path), 'facts': facts,
              'left_out': mapped.left_out}
    (place.folder / 'capture' / RECORD_FILE).write_text(json.dumps(record, indent=2) + '\n')
    write_report(place.folder / 'capture' / 'report', source.path.name, mapped,
                 posed_images(mapped.reconstruction, shots, place.images, source.path), facts)
    place.finish()
    for name, value in facts.items():
        say(f'{name}: {value}')
    return place.out


def _structure(pycolmap, place: Workplace, shots: list[Shot], chosen: Selection, fixed: set[int], seed: int,
               say: Callable[[str], None]) -> tuple[Mapped, int]:
    """Poses, and how many pairs were found by likeness: from the keys, or from all images where these do not hold together."""
    names, of_keys = [shot.name for shot in shots], set(chosen.keys)
    keys = [name for name, index in zip(names, chosen.indices, strict=True) if index in of_keys]

    def matched(some: list[str]) -> int:
        return match_shots(pycolmap, place.database, shots, some, chosen.is_video, say)

    def mapped(some: list[str]) -> Mapped:
        return map_images(pycolmap, place.database, place.images, place.folder / 'models', fixed, seed, some)

    alike = matched(keys)
    if len(keys) == len(names):
        return mapped(names), alike
    with contextlib.suppress(AprlocError):   # of images that only all together say why
        found = mapped(keys)
        if found.reconstruction.num_reg_images() >= _HELD_TOGETHER * len(names):
            return found, alike
    say(f'the {len(keys)} of {len(names)} images between which the picture moves do not hold together: mapping all')
    alike = matched(names)
    return mapped(names), alike


def _to_metres(pycolmap, mapped: Mapped, posed: PosedImages, wishes: Wishes) -> Metres:
    """What the source says of metres and up; the reconstruction is in that frame afterwards."""
    metres = metres_of_source(posed.names, posed.stamps_s, posed.T_map_cam, posed.cameras, posed.folder, posed.source, wishes)
    transform(pycolmap, mapped.reconstruction, metres.change)
    return metres


def choose(source: Source, frames: int | None, folder: Path) -> Selection:
    """Which of its images to take: chosen once, and kept in the folder for an interrupted run."""
    record = folder / 'chosen.json'
    if not record.is_file():
        with tqdm(source.looks(), total=len(source), desc='looking', unit='image', leave=False, mininterval=2.0) as looks:
            chosen = select(measure(looks), source, frames)
        partial = record.with_suffix('.part')
        partial.write_text(json.dumps(asdict(chosen)))
        partial.replace(record)
    return Selection(**json.loads(record.read_text()))


def match_shots(pycolmap, database: Path, shots: list[Shot], keys: Sequence[str], is_video: bool, say: Callable[[str], None]) -> int:
    """Match the images in a database, all with keys alone -> how many pairs were found by their likeness."""
    position = {shot.name: i for i, shot in enumerate(shots)}
    keys = [position[name] for name in keys]
    with pycolmap.Database.open(database) as stored:
        described = [stored.read_descriptors(stored.read_image_with_name(shots[k].name).image_id).data[::_EVERY] for k in keys]
    alike, neighbours = likeness(described), set()
    sequences = [shot.sequence for shot in shots]
    if is_video:
        neighbours = pairs.in_order([sequences[k] for k in keys])
        others = pairs.loops(alike) - neighbours
    else:
        others = pairs.alike(alike)
    neighbours, others = ({(keys[i], keys[j]) for i, j in some} for some in (neighbours, others))
    neighbours |= pairs.beside_keys(sequences, keys)
    say(f'matching {len(neighbours)} pairs of neighbours and {len(others)} that look alike')
    match(pycolmap, database, [(shots[i].name, shots[j].name) for i, j in sorted(neighbours | others)])
    return len(others)


def _check_whole(mapped: Mapped, names: list[str]):
    count, total = mapped.reconstruction.num_reg_images(), len(names)
    if count < _FEWEST_SHARE * total:
        parts = (f'they fall into parts of {parts_named((mapped.images, *mapped.other_parts), names)} that share too little; take more '
                 f'images (--frames), record the way between them, or pose each by itself') if mapped.other_parts else \
            Counter(mapped.left_out.values()).most_common(1)[0][0] + ' is the usual reason; record more slowly, with more overlap'
        raise AprlocError(f'only {count} of {total} images could be posed together: {parts}')


def parts_named(parts: Sequence[Collection[str]], names: Sequence[str]) -> str:
    """How many of the images, named in their order, are in each of the largest parts, and which."""
    told = [f'{len(part)} ({_runs([name in part for name in names], names)})' for part in parts[:_PARTS_NAMED]]
    return ', '.join(told + [f'{len(parts) - _PARTS_NAMED} smaller ones'] * (len(parts) > _PARTS_NAMED))


def _runs(inside: Sequence[bool], names: Sequence[str]) -> str:
    runs = [[name for _, name in run] for is_in, run in groupby(zip(inside, names, strict=True), itemgetter(0)) if is_in]
    told = [run[0] if len(run) == 1 else f'{run[0]} to {run[-1]}' for run in runs[:_RUNS_NAMED]]
    return ', '.join(told + [f'{sum(map(len, runs[_RUNS_NAMED:]))} others'] * (len(runs) > _RUNS_NAMED))


def _write(mapped: Mapped, shots: dict[str, Shot], metres: Metres, capture: Path):
    model = capture / 'sparse' / '0'
    model.mkdir(parents=True, exist_ok=True)
    mapped.reconstruction.write_text(model)
    write_frame(capture, metres.frame)
    stamped = [shot for shot in shots.values() if shot.stamp_s is not None]
    if stamped:
        lines = (f'{shot.stamp_s:.9f} {shot.name}\n' for shot in stamped)
        (capture / TIMES_FILE).write_text('# stamp_s name\n' + ''.join(lines))


def _facts(mapped: Mapped, shots: dict[str, Shot], chosen: Selection, alike: int, metres: Metres, torn: str) -> dict[str, str]:
    model = mapped.reconstruction
    count = model.num_reg_images()
    facts = {
        'images': chosen.text,
        'posed': f'{count} of {len(shots)} ({count / len(shots):.1%})',
        'reprojection error': f'{model.compute_mean_reprojection_error():.2f} pixels',
        'points': f'{model.num_points3D()}, each seen by {model.compute_mean_track_length():.1f} images in the mean',
        'points in an image': f'{model.compute_mean_observations_per_reg_image():.0f} in the mean',
        'pairs found by likeness': str(alike),
        'unit': f'{metres.frame.unit}: {metres.frame.source}' + (
            f', to {metres.frame.scale_sd:.2%}' if metres.frame.unit == METRE else '')}
    for camera in model.cameras.values():
        parameters = ' '.join(f'{value:.5g}' for value in camera.params)
        facts[f'lens {camera.camera_id}'] = f'{camera.model_name} {camera.width}x{camera.height} ({camera.params_info}): {parameters}'
    reasons = Counter(mapped.left_out.values())
    if reasons:
        facts['left out'] = '; '.join(f'{number}: {reason}' for reason, number in reasons.most_common(5))
    if torn:
        facts['places'] = torn
    if mapped.other_parts:
        facts['WARNING'] = f'further parts share too little with this one: {parts_named(mapped.other_parts, list(shots))}'
    return facts
