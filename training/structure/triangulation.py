"""Sparse points of a capture, triangulated from its known poses with COLMAP's SIFT pipeline (pycolmap)."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import torch

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import distances, invert
from aprloc_ros.lens import Lens, found_camera
from aprloc_ros.training.datasets.capture import Frame, SparsePoints
from aprloc_ros.training.datasets.files import save_image
from aprloc_ros.training.structure.colmap import answering_signals, can_read, ends_at_once, load_pycolmap, repeatable
from aprloc_ros.training.structure.features import extract
from aprloc_ros.training.structure.lens import calibrate_lenses, check_lens, is_far, moved_px, to_colmap
from aprloc_ros.training.structure.matching import match

_PARTNER_RANKS = (1, 2, 3, 5, 8, 12, 18, 27, 40)  # near partners make tracks, far ones make baselines
_RANKS_ACROSS = (0, 1, 2, 4, 8)
_MAX_VIEW_ANGLE_DEG = 60.0
_MIN_POINTS = 50


class TooFewPoints(AprlocError):
    """Too little texture, or poses that contradict the images."""


@dataclass(frozen=True)
class Structure:
    """What images with known poses say of the place, and of the lenses that took them."""

    points: SparsePoints
    lenses: tuple[Lens, ...]   # of cameras that are not as their frames declare


def triangulate(frames: tuple[Frame, ...], work_dir: Path, max_frames: int = 300, report=print,
                verified: bool = True) -> Structure:
    """Points seen by an even subset of `frames`, from SIFT matches between views that overlap, and the lenses they fit.

    work_dir holds COLMAP's database while it runs and is removed afterwards; verified: the poses are known to agree with
    the images. Raises TooFewPoints when fewer than 50 come out (too little texture, or poses that contradict the images),
    AprlocError for lenses that cannot be (see check_lens).
    """
    pycolmap = load_pycolmap()
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(max_frames, len(frames))).round().astype(int))
    shutil.rmtree(work_dir, ignore_errors=True)
    index_of = _link_images(frames, chosen, work_dir / 'images')
    root, database = work_dir / 'images', work_dir / 'database.db'

    report(f'triangulation: SIFT on {len(chosen)} of {len(frames)} training frames')
    extract(pycolmap, database, root, _colmap_cameras(pycolmap, {name: frames[i].camera for name, i in index_of.items()}))
    T_map_cam = torch.stack([frames[i].T_map_cam for i in index_of.values()])
    pairs = sorted({*view_pairs(T_map_cam), *pairs_across(T_map_cam, [frames[i].drive for i in index_of.values()])})
    report(f'triangulation: matching {len(pairs)} pairs of views')
    names = list(index_of)
    match(pycolmap, database, [(names[a], names[b]) for a, b in pairs])
    declared = _declared_cameras(pycolmap, database, frames, index_of)

    def located(lenses: tuple[Lens, ...]):
        cameras = {number: found_camera(camera, lenses) for number, camera in declared.items()}
        posed = _posed_reconstruction(pycolmap, database, frames, index_of, cameras)
        return answering_signals(pycolmap.triangulate_points, posed, database, root, work_dir, options=repeatable(pycolmap, 0))
    result = located(())
    points = _checked(_collect(result, index_of))
    report('triangulation: fitting the lens')
    with ends_at_once():
        fitted = calibrate_lenses(pycolmap, result, declared)
    lenses, doubts = (), []
    if fitted:
        again = _collect(located(fitted), index_of)
        doubts = [check_lens(lens, verified, len(points.xyz), len(again.xyz)) for lens in fitted]
        lenses = tuple(lens for lens, doubt in zip(fitted, doubts) if not doubt)
        points = _checked(again if lenses == fitted else _collect(located(lenses), index_of))
    shutil.rmtree(work_dir)
    report(f'triangulation: {len(points.xyz)} points, {len(points.observations)} observations')
    for text in [_description(lens, doubt) for lens, doubt in zip(fitted, doubts)] or ['lens: as declared']:
        report(text)
    return Structure(points, lenses)


def _checked(points: SparsePoints) -> SparsePoints:
    if len(points.xyz) < _MIN_POINTS:
        raise TooFewPoints(f'only {len(points.xyz)} points could be triangulated (at least {_MIN_POINTS} needed): '
                          'check that the poses belong to the images, or give a capture with points or depth')
    return points


def _description(lens: Lens, doubt: str) -> str:
    was, found = lens.declared, lens.found
    distortion = ' '.join(f'{value:.4f}' for value in found.distortion)
    text = (f'lens: the images say f {found.fx:.2f} {found.fy:.2f}, centre {found.cx:.2f} {found.cy:.2f}, distortion '
            f'{distortion}; declared f {was.fx:.2f} {was.fy:.2f}, centre {was.cx:.2f} {was.cy:.2f}: '
            f'{moved_px(lens):.2f} pixels apart')
    if doubt:
        return f'WARNING: {text}, which is not believed: {doubt}; the lens stays as declared'
    return f'WARNING: {text}: check the calibration of this camera' if is_far(lens) else text


def _link_images(frames: tuple[Frame, ...], chosen, directory: Path) -> dict[str, int]:
    """Links to the chosen frames' images by names without spaces, which COLMAP's list of pairs cannot hold.

    Files that it would not read as they are it gets as PNG.
    """
    directory.mkdir(parents=True)
    index_of = {}
    for i in map(int, chosen):
        frame = frames[i]
        is_linked = can_read(frame)
        name = f'{i:06d}{frame.image_path.suffix if is_linked else ".png"}'
        if is_linked:
            (directory / name).symlink_to(frame.image_path.absolute())
        else:
            save_image(directory / name, frame.read_image()[..., ::-1], cv2.IMWRITE_PNG_COMPRESSION, 1)
        index_of[name] = i
    return index_of


def view_pairs(T_map_cam: torch.Tensor) -> list[tuple[int, int]]:
    """Pairs of views that look the same way, [N, 4, 4] -> sorted (i, j) with i < j: a few near and a few far each."""
    everyone = torch.arange(len(T_map_cam))
    return sorted(_ranked_pairs(view_cost(T_map_cam), everyone, everyone, _PARTNER_RANKS))


def pairs_across(T_map_cam: torch.Tensor, drives: Sequence[str]) -> list[tuple[int, int]]:
    """Likewise of views [N, 4, 4] of different drives [N]: neighbours of one drive would leave the others no rank."""
    cost, names, pairs = view_cost(T_map_cam), np.array(drives), set()
    for a, b in permutations(dict.fromkeys(drives), 2):
        rows, columns = (torch.from_numpy(np.flatnonzero(names == drive)) for drive in (a, b))
        pairs |= _ranked_pairs(cost, rows, columns, _RANKS_ACROSS)
    return sorted(pairs)


def _ranked_pairs(cost: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, ranks: Sequence[int]) -> set[tuple[int, int]]:
    """(i, j) with i < j: each of the rows with those of the columns that have these ranks among its costs [N, N]."""
    ranked_cost, ranked = cost[rows][:, columns].sort(dim=1)
    ranks = [rank for rank in ranks if rank < len(columns)]
    pairs = ((row, int(columns[ranked[i, rank]])) for i, row in enumerate(rows.tolist()) for rank in ranks
             if torch.isfinite(ranked_cost[i, rank]))
    return {tuple(sorted(pair)) for pair in pairs if pair[0] != pair[1]}


def view_cost(T_map_cam: torch.Tensor) -> torch.Tensor:
    """How differently two views look, [N, 4, 4] -> [N, N]; infinite where they cannot overlap by their directions."""
    centres, axes = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    angle_deg = torch.rad2deg(torch.acos((axes @ axes.T).clamp(-1, 1)))
    distance = distances(centres, centres)
    cost = distance / distance.median().clamp_min(1e-9) + angle_deg / _MAX_VIEW_ANGLE_DEG
    cost[angle_deg > _MAX_VIEW_ANGLE_DEG] = torch.inf
    return cost


def _colmap_cameras(pycolmap, cameras: dict[str, Camera]) -> dict[str, object]:
    """COLMAP's own, one for all images of a camera."""
    made = {}
    for camera in cameras.values():
        if camera not in made:
            model, parameters = to_colmap(camera)
            made[camera] = pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=parameters)
            made[camera].has_prior_focal_length = True
    return {name: made[camera] for name, camera in cameras.items()}


def _declared_cameras(pycolmap, database: Path, frames: tuple[Frame, ...], index_of: dict[str, int]) -> dict[int, Camera]:
    """By COLMAP's number."""
    with pycolmap.Database.open(database) as stored:
        return {image.camera_id: frames[index_of[image.name]].camera for image in stored.read_all_images()}


def _posed_reconstruction(pycolmap, database: Path, frames, index_of: dict[str, int], cameras: dict[int, Camera]):
    reconstruction = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as stored:
        for camera in stored.read_all_cameras():
            model, parameters = to_colmap(cameras[camera.camera_id])
            camera.model, camera.params = getattr(pycolmap.CameraModelId, model), parameters
            reconstruction.add_camera_with_trivial_rig(camera)
        for image in stored.read_all_images():
            T_cam_map = invert(frames[index_of[image.name]].T_map_cam)
            bare = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image.image_id)
            reconstruction.add_image_with_trivial_frame(bare, pycolmap.Rigid3d(T_cam_map[:3].numpy()))
    return reconstruction


def _collect(reconstruction, index_of: dict[str, int]) -> SparsePoints:
    frame_of_image = {image_id: index_of[image.name] for image_id, image in reconstruction.images.items()}
    xyz, observations = [], []
    for point in reconstruction.points3D.values():
        if point.error > 2.0 or point.track.length() < 3:
            continue
        observations += [(frame_of_image[element.image_id], len(xyz)) for element in point.track.elements]
        xyz.append(point.xyz)
    return SparsePoints(torch.tensor(np.array(xyz).reshape(-1, 3)), torch.tensor(observations).reshape(-1, 2))
