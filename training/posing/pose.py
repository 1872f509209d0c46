"""`aprloc pose`: from images, a video or a bag to a capture with poses, by structure from motion."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.datasets.colmap_model import TIMES_FILE
from aprloc_ros.training.posing import pairs
from aprloc_ros.training.posing.mapping import Mapped, map_images
from aprloc_ros.training.posing.posed import find_similarity, posed_images, transform
from aprloc_ros.training.posing.report import write_report
from aprloc_ros.training.posing.selection import Selection, measure, select
from aprloc_ros.training.posing.shots import Optics, Shot, Source
from aprloc_ros.training.posing.sources import open_source
from aprloc_ros.training.posing.workplace import Workplace, check_new, fingerprint
from aprloc_ros.training.structure.colmap import load_pycolmap
from aprloc_ros.training.structure.features import extract, match
from aprloc_ros.training.structure.lens import to_colmap
from aprloc_ros.training.structure.vlad import likeness

RECORD_FILE = 'posing.json'
_UNKNOWN_MODEL = 'RADIAL'    # f cx cy k1 k2
_USUAL_FOCAL = 1.2           # of the longer side, to begin with: COLMAP's
_FEWEST_SHARE = 0.6          # of the images: with fewer posed the capture is no picture of the place
_EVERY = 3                   # of an image's features, by scale: enough to recognise it by


def pose(source: Path, out: Path, frames: int | None = None, seed: int = 0, say: Callable[[str], None] = print) -> Path:
    """Pose the images of a source and write them as a COLMAP capture -> its path.

    frames: how many images to take, None for as many as the movement asks for. Raises AprlocError in one line for a source
    that cannot be posed; then nothing is left.
    """
    if frames is not None and frames < 3:
        raise AprlocError(f'--frames {frames} is too few; structure from motion needs at least 3, a map some hundred')
    check_new(out)
    opened = open_source(source)
    place = Workplace(out, opened.path, frames, seed, say)
    try:
        return _pose(opened, place, frames, seed, say)
    except AprlocError:
        place.abandon()
        raise


def _pose(source: Source, place: Workplace, frames: int | None, seed: int, say: Callable[[str], None]) -> Path:
    pycolmap = load_pycolmap()
    chosen = Selection(**place.remembered('chosen', lambda: asdict(_choose(source, frames))))
    say(chosen.text)
    shots = {shot.name: shot for shot in tqdm(source.take(chosen.indices, place.images), total=len(chosen.indices),
                                              desc='taking', unit='image', leave=False, mininterval=2.0)}
    lenses = _lenses(pycolmap, shots)
    for text in (*source.notes, *_described(shots)):
        say(text)
    if not place.database.is_file():
        extract(pycolmap, place.database, place.images, {name: lenses[shot.optics] for name, shot in shots.items()})
    count = _match(pycolmap, place.database, list(shots.values()), chosen.is_video, say)
    mapped = map_images(pycolmap, place.database, place.images, place.folder / 'models', _fixed(shots), seed)
    _check_whole(mapped, len(shots))
    posed = posed_images(mapped.reconstruction, shots, place.images, source.path)
    similarity = find_similarity(posed)
    transform(pycolmap, mapped.reconstruction, similarity)
    capture = place.folder / 'capture'
    _write(mapped, shots, capture)
    facts = _facts(mapped, shots, chosen, count, similarity)
    record = {'request': fingerprint(source.path, frames, seed), 'source': str(source.path), 'facts': facts,
              'left_out': mapped.left_out}
    (capture / RECORD_FILE).write_text(json.dumps(record, indent=2) + '\n')
    write_report(capture / 'report', source.path.name, mapped, posed_images(mapped.reconstruction, shots, place.images, source.path),
                 facts)
    place.finish()
    for name, value in facts.items():
        say(f'{name}: {value}')
    return place.out


def _choose(source: Source, frames: int | None) -> Selection:
    with tqdm(source.looks(), total=len(source), desc='looking', unit='image', leave=False, mininterval=2.0) as looks:
        return select(measure(looks), source, frames)


def _lenses(pycolmap, shots: dict[str, Shot]) -> dict[Optics, object]:
    """COLMAP's camera of each lens: calibrated, or with the focal length that its maker says, or a usual one."""
    return {optics: _lens(pycolmap, optics) for optics in dict.fromkeys(shot.optics for shot in shots.values())}


def _lens(pycolmap, optics: Optics):
    if optics.camera is not None:
        model, parameters = to_colmap(optics.camera)
        camera = pycolmap.Camera(model=model, width=optics.width, height=optics.height, params=parameters)
    else:
        focal_px = optics.focal_px or _USUAL_FOCAL * max(optics.width, optics.height)
        camera = pycolmap.Camera.create_from_model_name(0, _UNKNOWN_MODEL, focal_px, optics.width, optics.height)
    camera.has_prior_focal_length = bool(optics.camera or optics.focal_px)
    return camera


def _described(shots: dict[str, Shot]) -> Iterator[str]:
    for optics, count in Counter(shot.optics for shot in shots.values()).items():
        known = 'calibrated, kept as it is' if optics.camera else f'focal length {optics.focal_px:.0f} px by EXIF, refined' \
            if optics.focal_px else 'unknown, estimated'
        yield f'lens of {count} images of {optics.width}x{optics.height}: {known}'


def _fixed(shots: dict[str, Shot]) -> set[int]:
    """Numbers of the calibrated cameras: COLMAP's database counts them in the order of the images."""
    lenses = dict.fromkeys(shot.optics for shot in shots.values())
    return {number for number, optics in enumerate(lenses, 1) if optics.camera is not None}


def _match(pycolmap, database: Path, shots: list[Shot], is_video: bool, say: Callable[[str], None]) -> int:
    """-> how many pairs were found by their likeness."""
    with pycolmap.Database.open(database) as stored:
        described = [stored.read_descriptors(image.image_id).data[::_EVERY] for image in stored.read_all_images()]
    alike, neighbours = likeness(described), set()
    if is_video:
        neighbours = pairs.in_order([shot.sequence for shot in shots])
        others = pairs.loops(alike) - neighbours
    else:
        others = pairs.alike(alike)
    say(f'matching {len(neighbours)} pairs of neighbours and {len(others)} that look alike')
    match(pycolmap, database, [(shots[i].name, shots[j].name) for i, j in sorted(neighbours | others)])
    return len(others)


def _check_whole(mapped: Mapped, total: int):
    count = mapped.reconstruction.num_reg_images()
    if count < _FEWEST_SHARE * total:
        parts = (f'they fall into parts of {", ".join(map(str, (count, *mapped.other_parts)))} that share too little; record the '
                 f'way between them, or pose each by itself') if mapped.other_parts else \
            Counter(mapped.left_out.values()).most_common(1)[0][0] + ' is the usual reason; record more slowly, with more overlap'
        raise AprlocError(f'only {count} of {total} images could be posed together: {parts}')


def _write(mapped: Mapped, shots: dict[str, Shot], capture: Path):
    model = capture / 'sparse' / '0'
    model.mkdir(parents=True, exist_ok=True)
    mapped.reconstruction.write_text(model)
    stamped = [shot for shot in shots.values() if shot.stamp_s is not None]
    if stamped:
        lines = (f'{shot.stamp_s:.9f} {shot.name}\n' for shot in stamped)
        (capture / TIMES_FILE).write_text('# stamp_s name\n' + ''.join(lines))


def _facts(mapped: Mapped, shots: dict[str, Shot], chosen: Selection, alike: int, similarity) -> dict[str, str]:
    model = mapped.reconstruction
    count = model.num_reg_images()
    unit = f'{similarity.source}: 1 unit is a metre within {similarity.scale_sd:.1%}' if np.isfinite(similarity.scale_sd) else \
        f'ARBITRARY, not the metre ({similarity.source})'
    facts = {
        'images': chosen.text,
        'posed': f'{count} of {len(shots)} ({count / len(shots):.1%})',
        'reprojection error': f'{model.compute_mean_reprojection_error():.2f} pixels',
        'points': f'{model.num_points3D()}, each seen by {model.compute_mean_track_length():.1f} images in the mean',
        'points in an image': f'{model.compute_mean_observations_per_reg_image():.0f} in the mean',
        'pairs found by likeness': str(alike),
        'unit': unit}
    for camera in model.cameras.values():
        parameters = ' '.join(f'{value:.5g}' for value in camera.params)
        facts[f'lens {camera.camera_id}'] = f'{camera.model_name} {camera.width}x{camera.height} ({camera.params_info}): {parameters}'
    reasons = Counter(mapped.left_out.values())
    if reasons:
        facts['left out'] = '; '.join(f'{number}: {reason}' for reason, number in reasons.most_common(5))
    if mapped.other_parts:
        facts['WARNING'] = f'further parts of {", ".join(map(str, mapped.other_parts))} images share too little with this one'
    return facts
