"""Poses of a later drive in the frame of a map: where the map believes itself, and by structure from motion between that."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.estimate import why_mostly
from aprloc_ros.geometry import invert
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle
from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.training.datasets.formats.colmap_model import TIMES_FILE
from aprloc_ros.training.datasets.frame_file import write_frame
from aprloc_ros.training.datasets.splits import MIN_FRAMES
from aprloc_ros.training.posing.lenses import colmap_camera, of_the_map
from aprloc_ros.training.posing.mapping import map_parts
from aprloc_ros.training.posing.pose import RECORD_FILE, choose, match_shots
from aprloc_ros.training.posing.posed import camera_poses, transform
from aprloc_ros.training.posing.sources.opening import open_source
from aprloc_ros.training.posing.sources.shots import Optics, Shot
from aprloc_ros.training.posing.ties import FEWEST, agree, tie, within_reach
from aprloc_ros.training.posing.workplace import Workplace, fingerprint
from aprloc_ros.training.structure.colmap import ends_at_once, load_pycolmap
from aprloc_ros.training.structure.features import extract

_REACH, _REACH_DEG = 0.02, 2.0   # of the scene's size, or three times the map's own 95 % error: what agrees
_MOST_BELIEVED = 0.6     # of the images of a part too small to be tied: the map knows them without
_PRIOR_SD = 0.0005       # of the scene's size, of a believed position


@dataclass(frozen=True, eq=False)
class _Believed:
    """What the map says of the images that it believes, by name."""

    T_map_cam: dict[str, Tensor]
    reach_m: float   # from where a believed image may be
    sd_m: float
    reach_deg: float = _REACH_DEG
    rejections: tuple[tuple[str, str], ...] = ()   # reason and text of each that is none

    def agrees(self, name: str, T_map_cam: Tensor) -> bool:
        """Whether a pose [4, 4] of the image is the one that the map believes: the map's own is the better one then."""
        known = self.T_map_cam.get(name)
        return known is not None and bool(agree(T_map_cam[None], known[None], self.reach_m, self.reach_deg))


def not_known(drive: str, believed: int, asked: int, rejections: Sequence[tuple[str, str]]) -> str:
    """What to say of a drive of which the map believes so few of its answers; the others' reasons and texts."""
    why = why_mostly(rejections)
    if why:
        return f'{drive}: the map believes {believed} of {asked} of its answers; {why}'
    return (f'no overlap was found between {drive} and the map: it believes {believed} of {asked} of its answers. It is of another place, through a '
            'lens of another angle, or in another light altogether: extend the map by a drive between them first (dusk before night), or build it '
            'anew from all drives, with poses in one frame')


def pose_by_map(bundle: MapBundle, data: Path, out: Path, device: str, say: Callable[[str], None]) -> Path:
    """Write the images of a source with poses in the map's frame as a COLMAP capture -> its path; found again if it is there.

    Parts of the drive that share nothing with an image which the map believes are left out and said. Raises AprlocError where
    too little of it is left.
    """
    pycolmap, source, record = load_pycolmap(), open_source(data), out / RECORD_FILE
    request = json.dumps([fingerprint(source.path, None, 0), bundle.sha256])
    if record.is_file() and json.loads(record.read_text())['request'] == request:
        return out
    say(f'{data} has no poses: asking the map for them')
    shutil.rmtree(out, ignore_errors=True)
    place = Workplace(out, request, say)
    chosen = choose(source, None, place.folder)
    shots = [_with_camera(shot, bundle) for shot in source.take(chosen.indices, place.images)]
    believed = _believed(bundle, shots, place.images, device)
    say(f'{chosen.text}; the map believes {len(believed.T_map_cam)} of {len(shots)}, as it would of a place that looks alike')
    if len(believed.T_map_cam) < FEWEST:
        place.abandon()
        raise AprlocError(not_known(str(data), len(believed.T_map_cam), len(shots), believed.rejections))
    if not place.database.is_file():
        lenses = {optics: colmap_camera(pycolmap, optics) for optics in dict.fromkeys(shot.optics for shot in shots)}
        extract(pycolmap, place.database, place.images, {shot.name: lenses[shot.optics] for shot in shots}, place.masks)
    match_shots(pycolmap, place.database, shots, [shot.name for shot in shots], chosen.is_video, say)
    fixed = set(range(1, 1 + len({shot.optics for shot in shots})))
    parts = map_parts(pycolmap, place.database, place.images, place.folder / 'models', fixed, 0, [shot.name for shot in shots])
    found = _connected(pycolmap, parts, believed)
    say(_connection(shots, found))
    if len(found) < MIN_FRAMES:
        place.abandon()
        raise AprlocError(f'{data}: only {len(found)} of {len(shots)} images could be connected to the map, it takes {MIN_FRAMES}')
    _write(pycolmap, [shot for shot in shots if shot.name in found], found, place.folder / 'capture', bundle)
    record = {'request': request, 'source': str(source.path)}
    (place.folder / 'capture' / RECORD_FILE).write_text(json.dumps(record, indent=2) + '\n')
    place.finish()
    return place.out


def _with_camera(shot: Shot, bundle: MapBundle) -> Shot:
    """A lens that nobody calibrated is taken for that of the map."""
    return replace(shot, optics=Optics(shot.optics.width, shot.optics.height, of_the_map(shot, bundle.manifest)))


def _believed(bundle: MapBundle, shots: list[Shot], folder: Path, device: str) -> _Believed:
    localizer, found, rejections = Localizer(bundle, device), {}, []
    for shot in tqdm(shots, desc='asking the map', unit='image', leave=False, mininterval=2.0):
        estimate = localizer.localize(read_image(folder / shot.name), shot.optics.camera)   # not turned by its EXIF
        if estimate.status == 'refined':
            found[shot.name] = estimate.T_map_cam.double().cpu()
        elif estimate.status == 'rejected':
            rejections.append((estimate.reason, estimate.text))
    unit_m, accuracy = bundle.manifest.scene.scene_unit_m, bundle.manifest.accuracy
    return _Believed(found, max(_REACH * unit_m, 3 * accuracy.get('p95_m', 0.0)), _PRIOR_SD * unit_m,
                     max(_REACH_DEG, 3 * accuracy.get('p95_deg', 0.0)), tuple(rejections))


def _connected(pycolmap, parts: list, believed: _Believed) -> dict[str, Tensor]:
    """Name -> T_map_cam [4, 4] of what the map believes and nothing contradicts, and of what parts of the drive add to it.

    Of a part that has no place in the map its images are left out, believed or not: answers that do not fit one another are
    wrong, and so are a few among many that the map does not know.
    """
    found, apart = {}, set()
    for part in parts:
        names = set(camera_poses(part))
        tied = _tied(pycolmap, part, believed)
        known = len(names & believed.T_map_cam.keys())
        if tied or known >= FEWEST or known < _MOST_BELIEVED * len(names):
            apart |= names
        found |= tied
    return {**{name: T for name, T in believed.T_map_cam.items() if name not in apart}, **found}


def _tied(pycolmap, part, believed: _Believed) -> dict[str, Tensor]:
    """Bring a part into the map's frame, in place -> its poses there; none where too few believed images agree about where it
    lies. Images so far from these that they do not say where they are are left out.
    """
    if not _brought(pycolmap, part, believed):
        return {}
    ties = {name: believed.T_map_cam[name][:3, 3] for name, T in camera_poses(part).items() if believed.agrees(name, T)}
    _adjust(pycolmap, part, ties, believed.sd_m)
    if not _brought(pycolmap, part, believed):   # COLMAP has moved it by the places alone
        return {}
    posed = camera_poses(part)
    near = within_reach(torch.stack([T[:3, 3] for T in posed.values()]), torch.stack(list(ties.values())))
    return {name: believed.T_map_cam[name] if believed.agrees(name, T) else T
            for (name, T), is_near in zip(posed.items(), near.tolist()) if is_near}


def _brought(pycolmap, part, believed: _Believed) -> bool:
    posed = {name: T for name, T in camera_poses(part).items() if name in believed.T_map_cam}
    if len(posed) < FEWEST:
        return False
    change = tie(torch.stack(list(posed.values())), torch.stack([believed.T_map_cam[name] for name in posed]), believed.reach_m,
                 believed.reach_deg)
    if change is not None:
        transform(pycolmap, part, change)
    return change is not None


def _adjust(pycolmap, part, positions: dict[str, Tensor], sd_m: float) -> None:
    """Bundle adjustment with believed positions as priors: a long part bends else."""
    config, priors = pycolmap.BundleAdjustmentConfig(), []
    for number in part.reg_image_ids():
        image = part.images[number]
        config.add_image(number)
        if image.name in positions:
            priors.append(pycolmap.PosePrior(corr_data_id=image.data_id, position=positions[image.name].numpy(),
                                             position_covariance=sd_m ** 2 * np.eye(3),
                                             coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN))
    for number in part.cameras:
        config.set_constant_cam_intrinsics(number)
    options = pycolmap.BundleAdjustmentOptions()
    options.ceres.solver_options.num_threads = 1
    options.print_summary = False
    by_priors = pycolmap.PosePriorBundleAdjustmentOptions()
    by_priors.alignment_ransac.random_seed = 0
    with ends_at_once():
        pycolmap.create_pose_prior_bundle_adjuster(options, by_priors, config, priors, part).solve()


def _connection(shots: list[Shot], found: dict[str, Tensor]) -> str:
    """How much of the drive is connected to the map, and which stretches of it are not."""
    apart, stretches = [shot.name not in found for shot in shots], []
    for index, lost in enumerate(apart):
        if lost and (not index or not apart[index - 1]):
            stretches.append([shots[index].name, shots[index].name])
        elif lost:
            stretches[-1][1] = shots[index].name
    text = f'{len(found)} of {len(shots)} images have a pose in the map'
    if not stretches:
        return text
    named = ', '.join(first if first == last else f'{first} to {last}' for first, last in stretches[:5])
    return f'WARNING: {text}; not connected, and not used: {named}{" ..." if len(stretches) > 5 else ""}'


def _write(pycolmap, shots: list[Shot], T_map_cam: dict[str, Tensor], capture: Path, bundle: MapBundle) -> None:
    model = pycolmap.Reconstruction()
    numbers = {optics: number for number, optics in enumerate(dict.fromkeys(shot.optics for shot in shots), 1)}
    for optics, number in numbers.items():
        camera = colmap_camera(pycolmap, optics)
        camera.camera_id = number
        model.add_camera_with_trivial_rig(camera)
    for number, shot in enumerate(shots, 1):
        image = pycolmap.Image(name=shot.name, camera_id=numbers[shot.optics], image_id=number)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(invert(T_map_cam[shot.name])[:3].numpy()))
    folder = capture / 'sparse' / '0'
    folder.mkdir(parents=True, exist_ok=True)
    model.write_text(folder)
    write_frame(capture, bundle.manifest.frame)
    stamped = [shot for shot in shots if shot.stamp_s is not None]
    if stamped:
        (capture / TIMES_FILE).write_text('# stamp_s name\n' + ''.join(f'{shot.stamp_s:.9f} {shot.name}\n' for shot in stamped))
