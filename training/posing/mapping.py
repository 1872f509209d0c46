"""Structure from motion: COLMAP's incremental mapper on a database of matches, and why it left images out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aprloc_ros.errors import AprlocError
from aprloc_ros.training.posing.turning import only_turned
from aprloc_ros.training.structure.colmap import answering_signals

_FEW_FEATURES = 150
_TURNED = 0.95       # share of the pairs whose images differ by a turn, or show a plane
_FLAT = ('PLANAR', 'PANORAMIC', 'PLANAR_OR_PANORAMIC')
_FEWEST = 3          # images of a model


@dataclass(frozen=True, eq=False)
class Mapped:
    """A reconstruction, and the images that are not in it."""

    reconstruction: object          # pycolmap's
    left_out: dict[str, str]        # name -> why
    other_parts: tuple[int, ...]    # images of further models that are not in this one


def map_images(pycolmap, database: Path, root: Path, work_dir: Path, fixed: set[int], seed: int) -> Mapped:
    """The largest model of the images in a database. fixed: cameras whose intrinsics are known.

    Raises AprlocError in one line where there is none, with what the matches say of the reason.
    """
    evidence = _Evidence.of(pycolmap, database)
    evidence.check()
    ranked = map_parts(pycolmap, database, root, work_dir, fixed, seed, len(evidence.names))
    if not ranked or ranked[0].num_reg_images() < _FEWEST:
        raise AprlocError(evidence.failure())
    largest, *others = map(_names, ranked)
    parts = tuple(len(part) for part in (other - largest for other in others) if len(part) >= _FEWEST)
    return Mapped(ranked[0], evidence.reasons(largest, set().union(*others)), parts)


def map_parts(pycolmap, database: Path, root: Path, work_dir: Path, fixed: set[int], seed: int, total: int) -> list:
    """All models of the `total` images in a database, each in a frame of its own, the largest first."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with tqdm(total=total, desc='mapping', unit='image', leave=False, mininterval=2.0) as bar:
        def registered():
            bar.update(bar.n < bar.total)
        models = answering_signals(pycolmap.incremental_mapping, database, root, work_dir,
                                   options=_options(pycolmap, fixed, seed), next_image_callback=registered)
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def _names(model) -> set[str]:
    return {model.images[number].name for number in model.reg_image_ids()}


def _options(pycolmap, fixed: set[int], seed: int):
    """Sampling by a seed, sums in a fixed order: the same on any machine's number of cores."""
    options = pycolmap.IncrementalPipelineOptions()
    for part in (options, options.mapper, options.triangulation):
        part.random_seed = seed
    options.num_threads = options.mapper.num_threads = 1
    options.min_model_size = _FEWEST
    options.constant_cameras = fixed
    return options


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
