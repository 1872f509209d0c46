"""What a map says about itself: `map.yaml`."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from aprloc_ros.camera import Camera, may_have_taken
from aprloc_ros.catalogue import FILE_NAME, MAP, check_map_name, read_map_yaml
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.covariance import HessianCovariance, check_covariance
from aprloc_ros.errors import AprlocError
from aprloc_ros.gate import Gate
from aprloc_ros.lens import Lens, found_camera
from aprloc_ros.placement.map_frame import MapFrame
from aprloc_ros.scene import SceneNormalisation

SCHEMA = 1
_FRAME_ID = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_/-]{0,255}')
_COUNT = {'range': (0, None)}
_NOT_NEGATIVE = {'range': (0.0, None)}


@dataclass(frozen=True)
class ModelSpec:
    """Which network, with which arguments; sha256 is of its weights file and is filled in by save_map."""

    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str = ''


@dataclass(frozen=True)
class DescriptorSpec:
    """The descriptors that were learned on the place, and the points that have them."""

    extractor: ModelSpec
    camera: Camera             # rectified pinhole; its size is the extractor's input
    points_sha256: str = ''    # of the points' file, filled in by save_map

    def __post_init__(self):
        _check_pinhole(self.camera)


@dataclass(frozen=True)
class RefinerSpec:
    """What the build learned about one refiner of this map."""

    gate: Gate
    covariance: HessianCovariance


@dataclass(frozen=True)
class Drive:
    """One of the captures that taught a map, and how well the map then knew its held-out frames."""

    format: str
    name: str
    train_frames: int = field(metadata=_COUNT)
    test_frames: int = field(metadata=_COUNT)
    content_hash: str
    accuracy: dict[str, float] = field(default_factory=dict)   # the unit in each name


@dataclass(frozen=True)
class Provenance:
    """The capture the map was built from, or all of its drives. content_hash: of its poses and images; code_version: of this package.

    calibration: the other capture that gates and covariances were calibrated on, and its hash; empty: blocks held out of this one.
    """

    format: str
    name: str
    train_frames: int = field(metadata=_COUNT)
    test_frames: int = field(metadata=_COUNT)
    content_hash: str
    seed: int
    code_version: str
    calibration: str = ''
    calibration_hash: str = ''
    drives: tuple[Drive, ...] = ()   # where there were several

    def calibrated_on(self, name: str, content_hash: str) -> 'Provenance':
        return replace(self, calibration=name, calibration_hash=content_hash)

    @property
    def hashes(self) -> frozenset[str]:
        """Of the contents of every capture that trained the map."""
        return frozenset((self.content_hash, *(drive.content_hash for drive in self.drives)))


@dataclass(frozen=True)
class Lesson:
    """A drive without poses that taught the regressor (`aprloc adapt`), and how much better that made it.

    exam: what the medians are of: 'believed answers' of the drive that did not teach, or the capture of a 'check'.
    """

    method: str
    data: str                                          # name of the drive
    images: int = field(metadata=_COUNT)
    believed: int = field(metadata=_COUNT)             # of these, by the gate
    exam: str
    exam_images: int = field(metadata=_COUNT)
    before_m: float = field(metadata=_NOT_NEGATIVE)    # median of the regressor alone
    before_deg: float = field(metadata=_NOT_NEGATIVE)
    after_m: float = field(metadata=_NOT_NEGATIVE)
    after_deg: float = field(metadata=_NOT_NEGATIVE)


@dataclass(frozen=True)
class BuildFacts:
    preset: str
    seconds: float = field(metadata=_NOT_NEGATIVE)
    peak_memory_mb: float = field(metadata=_NOT_NEGATIVE)
    hardware: str
    torch_version: str


@dataclass(frozen=True, eq=False)
class Manifest:
    """Everything of a map but its weights."""

    name: str
    camera: Camera                 # rectified pinhole; its size is the regressor's input
    scene: SceneNormalisation
    regressor: ModelSpec
    field: ModelSpec
    data: Provenance
    accuracy: dict[str, float]     # on held-out frames, the unit in each name: {'median_m': ..., 'psnr_db': ...}
    covariance: Tensor = field(metadata={'shape': (6, 6)})   # of the regressor alone, see aprloc_ros.covariance
    build: BuildFacts
    history: dict[str, list[list[float]]] = field(default_factory=dict)   # how held-out scores moved with seconds
    descriptors: DescriptorSpec | None = None
    refiner: str = 'none'          # the one that is used where none is asked for
    refiners: dict[str, RefinerSpec] = field(default_factory=dict)   # calibrated ones, by name
    lenses: tuple[Lens, ...] = ()  # of the drive's cameras that were not as declared
    taken_by: Camera | None = None   # what took the drive's images, most of them, as it was found; None in maps of older versions
    lessons: tuple[Lesson, ...] = ()   # the last one made the regressor what it is
    frame: MapFrame = field(default_factory=MapFrame)
    frame_id: str = 'map'
    schema: int = SCHEMA

    def __post_init__(self):
        if self.schema != SCHEMA:
            raise AprlocError(f'schema is {self.schema} but this version reads {SCHEMA}')
        check_map_name(self.name)
        if not _FRAME_ID.fullmatch(self.frame_id):
            raise AprlocError(f'frame_id is {self.frame_id!r}; it must be a TF frame such as map')
        _check_pinhole(self.camera)
        check_covariance(self.covariance)
        if self.refiner not in ('none', *self.refiners):
            raise AprlocError(f'refiner is {self.refiner!r}; the map has none, {", ".join(self.refiners)}')

    def promising(self, max_wrong_share: float) -> 'Manifest':
        """With gates that let no larger share of wrong poses through, as far as the calibration can tell."""
        specs = {name: replace(spec, gate=spec.gate.promising(max_wrong_share)) for name, spec in self.refiners.items()}
        return replace(self, refiners=specs)

    def source(self, camera: Camera | None, width: int, height: int) -> Camera:
        """What is known of the camera that took an image of that size; None: what took the drive's, scaled to it."""
        if camera:
            return found_camera(camera, self.lenses)
        whole = self.taken_by and may_have_taken(self.taken_by, width, height)
        return (self.taken_by if whole else self.camera).resized(width, height)


def _check_pinhole(camera: Camera) -> None:
    if camera.model != 'pinhole':
        raise AprlocError(f'camera.model is {camera.model!r}; it must be pinhole')


def read_manifest(path: Path) -> Manifest:
    """Parse and check map.yaml. AprlocError begins with the path and ends with the cure."""
    mapping = read_map_yaml(path)
    try:
        return from_mapping(Manifest, mapping, str(path))
    except AprlocError as error:
        raise AprlocError(f'{error}; {MAP.cure}') from None


def manifest_text(manifest: Manifest) -> str:
    """The content of map.yaml. AprlocError where it would not be read again (a NaN in the accuracy, say)."""
    mapping = to_mapping(manifest)
    from_mapping(Manifest, mapping, FILE_NAME)
    return yaml.dump(mapping, Dumper=_PlainDumper, sort_keys=False, width=120, default_flow_style=None)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True
