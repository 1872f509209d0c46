"""Structure from motion: COLMAP's incremental mapper on a database of matches, and why it left images out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.posing.joining import join
from aprloc_ros.training.posing.polish import PARALLAX_DEG, polished
from aprloc_ros.training.posing.turning import only_turned
from aprloc_ros.training.structure.colmap import answering_signals, repeatable

_FEW_FEATURES = 150
_TURNED = 0.95       # share of the pairs whose images differ by a turn, or show a plane
_FLAT = ('PLANAR', 'PANORAMIC', 'PLANAR_OR_PANORAMIC')
_FEWEST = 3          # images of a model
_REACH = 0.003       # of the longer side
_WIDER = 3.0         # times that, for a pose or point that is only being found: COLMAP's ratio
_INLIERS, _FIRST_INLIERS = 15, 50   # COLMAP's half
_ROUGH = 1e-4        # share of the cost by which a step must lower it while images come in; the last adjustment is exact
_GROWTH = 1.2        # of a model between two adjustments of all of it; with COLMAP's 1.1 there are twice as many


@dataclass(frozen=True, eq=False)
class Mapped:
    """A reconstruction, and the images that are not in it."""

    reconstruction: object          # pycolmap's
    left_out: dict[str, str]        # name -> why
    other_parts: tuple[frozenset[str], ...]   # images of further models that are not in this one, by name

    @property
    def images(self) -> frozenset[str]:
        """Names of those that are in it."""
        return frozenset(_names(self.reconstruction))


def map_images(pycolmap, database: Path, root: Path, work_dir: Path, fixed: set[int], seed: int, keys: Sequence[str]) -> Mapped:
    """The largest model of the images in a database, made of the keys. fixed: cameras whose intrinsics are known.

    Raises AprlocError in one line where there is none, with what the matches say of the reason.
    """
    evidence = _Evidence.of(pycolmap, database)
    evidence.check()
    ranked = map_parts(pycolmap, database, root, work_dir, fixed, seed, keys)
    if not ranked or ranked[0].num_reg_images() < _FEWEST:
        raise AprlocError(evidence.failure())
    model = ranked[0]
    if len(keys) < len(evidence.names):
        model = join(pycolmap, model, database, _options(pycolmap, _cameras(pycolmap, database), fixed, seed), len(evidence.names))
    found = polished(pycolmap, model, database, root, work_dir / 'polished', fixed, seed)
    if found.num_reg_images() < _FEWEST:
        raise AprlocError(evidence.failure())
    largest, *others = map(_names, (found, *ranked[1:]))
    parts = tuple(frozenset(part) for part in (other - largest for other in others) if len(part) >= _FEWEST)
    return Mapped(found, evidence.reasons(largest, set().union(*others)), parts)


def map_parts(pycolmap, database: Path, root: Path, work_dir: Path, fixed: set[int], seed: int, names: Sequence[str]) -> list:
    """All models of these images in a database, each in a frame of its own, the largest first."""
    work_dir.mkdir(parents=True, exist_ok=True)
    options = _options(pycolmap, _cameras(pycolmap, database), fixed, seed)
    options.image_names = list(names)
    with tqdm(total=len(names), desc='mapping', unit='image', leave=False, mininterval=2.0) as bar:
        def registered():
            bar.update(bar.n < bar.total)
        models = answering_signals(pycolmap.incremental_mapping, database, root, work_dir,
                                   options=options, next_image_callback=registered)
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def _names(model) -> set[str]:
    return {model.images[number].name for number in model.reg_image_ids()}


def _cameras(pycolmap, database: Path) -> list:
    with pycolmap.Database.open(database) as stored:
        return stored.read_all_cameras()


def _options(pycolmap, cameras: list, fixed: set[int], seed: int):
    """COLMAP's limits in pixels suit photographs. In a small image they are wide angles, and where much of it is far away, points
    and images come in that belong elsewhere; with narrow ones fewer inliers and less parallax can be trusted.
    """
    options = repeatable(pycolmap, seed)
    mapper, points = options.mapper, options.triangulation
    options.min_model_size = _FEWEST
    options.constant_cameras = fixed
    error_px = max(reach_px(camera.width, camera.height) for camera in cameras)
    error_deg = max(math.degrees(_WIDER * error_px / camera.mean_focal_length()) for camera in cameras)
    mapper.init_max_error = mapper.filter_max_reproj_error = error_px
    points.merge_max_reproj_error = points.complete_max_reproj_error = error_px
    mapper.abs_pose_max_error = _WIDER * error_px
    points.create_max_angle_error = points.continue_max_angle_error = min(error_deg, points.create_max_angle_error)
    mapper.filter_min_tri_angle = points.min_angle = PARALLAX_DEG
    mapper.abs_pose_min_num_inliers, mapper.init_min_num_inliers = _INLIERS, _FIRST_INLIERS
    options.ba_global_frames_ratio = options.ba_global_points_ratio = _GROWTH
    options.ba_global_function_tolerance = options.ba_local_function_tolerance = _ROUGH
    mapper.ba_global_ignore_redundant_points3D = True
    return options


def reach_px(width: int, height: int) -> float:
    """How far a point may be from where an image shows it: three thousandths of the longer side, at most COLMAP's 4 pixels."""
    return min(max(_REACH * max(width, height), 1.0), 4.0)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What features and confirmed pairs there are."""

    names: dict[int, str]
    features: dict[int, int]
    partners: Counter           # image -> images that it matches
    pairs: int                  # that match
    flat: list                  # homographies [3, 3] of those that one explains
    size: tuple[int, int]       # pixels of the first camera

    @classmethod
    def of(cls, pycolmap, database: Path) -> '_Evidence':
        partners, flat, count = Counter(), [], 0
        with pycolmap.Database.open(database) as stored:
            names = {image.image_id: image.name for image in stored.read_all_images()}
            features = {number: stored.num_keypoints_for_image(number) for number in names}
            camera = stored.read_all_cameras()[0]
            for pair, geometry in zip(*stored.read_two_view_geometries()):
                if len(geometry.inlier_matches):
                    partners.update(pycolmap.pair_id_to_image_pair(pair))
                    count += 1
                    if pycolmap.TwoViewGeometryConfiguration(geometry.config).name in _FLAT and geometry.H is not None:
                        flat.append(geometry.H)
        return cls(names, features, partners, count, flat, (camera.width, camera.height))

    def check(self):
        poor = sum(count < _FEW_FEATURES for count in self.features.values())
        if 2 * poor > len(self.names):
            raise AprlocError(f'{poor} of {len(self.names)} images have fewer than {_FEW_FEATURES} features: they are blurred or '
                              f'show too little texture; record sharper images, nearer to things that have structure')
        alone = len(self.names) - len(self.partners)
        if 2 * alone > len(self.names):
            raise AprlocError(f'{alone} of {len(self.names)} images match no other: they do not overlap; record so that '
                              f'neighbours show at least half of the same things, a video at best')

        if len(self.flat) > _TURNED * self.pairs and only_turned(self.flat, *self.size):
            raise AprlocError(f'no depth: in all {self.pairs} pairs of images that match, the camera seems to have turned in '
                              f'place; record while it moves sideways through the place')

    def failure(self) -> str:
        return (f'no two of {len(self.names)} images match well enough to begin with, from places far enough apart '
                f'({self.pairs} pairs match, in {len(self.flat)} the camera only turned or saw one flat wall); record while '
                f'moving sideways, more slowly')

    def reasons(self, inside: set[str], elsewhere: set[str]) -> dict[str, str]:
        """Why images are not among those inside a model; elsewhere: those of others."""
        return {name: self._reason(number, name in elsewhere) for number, name in self.names.items() if name not in inside}

    def _reason(self, number: int, is_elsewhere: bool) -> str:
        if self.features[number] < _FEW_FEATURES:
            return f'blurred or bare: {self.features[number]} features'
        if not self.partners[number]:
            return 'matches no other image'
        if is_elsewhere:
            return 'belongs to a part that shares too little with the others'
        return f'matches {self.partners[number]} images, but shares too few points with the posed ones'
