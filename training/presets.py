"""The two sets of build settings, and how a user's YAML file changes them."""

from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.extractor import FINE_CHANNELS
from aprloc_ros.training.stages.coordinates import CoordinateTraining
from aprloc_ros.training.stages.descriptors import DescriptorTraining
from aprloc_ros.training.stages.features import FeatureTraining
from aprloc_ros.training.stages.field import FieldTraining
from aprloc_ros.training.stages.regressor import RegressorTraining


@dataclass(frozen=True)
class Preset:
    """Settings of a build.

    map_points, map_patches: so many are kept at most. max_sift_frames: training frames that are triangulated where a capture has no
    points.
    """

    field: FieldTraining
    regressor: RegressorTraining
    descriptors: DescriptorTraining
    features: FeatureTraining
    coordinates: CoordinateTraining = field(default_factory=CoordinateTraining)   # of a regressor of that kind
    map_points: int = field(default=5000, metadata={'range': (16, 1_000_000)})
    map_patches: int = field(default=6000, metadata={'range': (0, 1_000_000)})
    max_sift_frames: int = field(default=300, metadata={'range': (2, 100_000)})

    def __post_init__(self):
        """A field's features are the fine descriptors, or it has none."""
        channels = self.field.arguments.get('feature_channels', 0)
        wanted = self.descriptors.arguments.get('fine_channels', FINE_CHANNELS)
        if channels not in (0, wanted):
            raise AprlocError(f'field.arguments.feature_channels is {channels}; it must be that of the fine descriptors, '
                              f'{wanted}, or 0 for a field without features')


# The papers' numbers (DFNet section 4.1 and supplement 1.1; shared hyper-parameters of the authors' released code), but
# for the features: those of the descriptors that were learned on the place, not DFNet's.
PAPER = Preset(
    FieldTraining(kind='nefes', arguments={'feature_channels': 32}, epochs=600, rays=1536, short_side=120,
                  learning_rate=5e-4, final_learning_rate=8e-5, spatial_factor=1.0, depth_weight=0.0),
    RegressorTraining(arguments={'backbone': 'vgg16'}, short_side=240, epochs=2000, batch=4, learning_rate=1e-4,
                      schedule='plateau', patience=200, validate_every=0, rvs_refresh_epochs=20),
    DescriptorTraining(arguments={'input': 'even_light', 'width': 2.0, 'coarse_channels': 128, 'fine_channels': 32},
                       short_side=480, steps=20_000, pairs=4, points=512),
    FeatureTraining(colour='trained', epochs=600, learning_rate=8e-5, final_learning_rate=1.28e-5, spatial_factor=1.0),
    map_points=20_000, map_patches=10_000, max_sift_frames=1000)

# A map in some twenty minutes on two CPU cores, of less than 5 MB. In so few steps the transient head costs more
# than it gives (demo place, held-out PSNR: 21.5 dB before it was switched on at 60 % of the steps, 21.1 dB after), and a
# fusion network makes the features better that go through it, but those worse on the demo that `align` renders ray by ray.
SMALL = Preset(
    FieldTraining(arguments={'plane_sizes': [48, 128], 'grid_size': 24, 'proposal_size': 40, 'feature_channels': 16,
                             'feature_plane_sizes': [64]}, steps=1000, transient_from=1.0),
    RegressorTraining(kind='coordinates', steps=2000, learning_rate=2e-3),
    DescriptorTraining(arguments={'input': 'even_light'}, steps=2500),
    FeatureTraining(steps=1200, fusion_from=0.6, images=16, rays=1024, crops=4, learning_rate=5e-3,
                    final_learning_rate=5e-4))

PRESETS = {'small': SMALL, 'paper': PAPER}


def load_preset(name: str, config: Path | None = None) -> Preset:
    """A preset by name with the values of a YAML file (`field:`, `regressor:`) laid over it.

    Raises AprlocError for an unknown preset, an unreadable file, and an unknown key or a value out of range.
    """
    if name not in PRESETS:
        raise AprlocError(f'preset {name!r} is not one of {", ".join(PRESETS)}')
    if config is None:
        return PRESETS[name]
    try:
        changes = yaml.safe_load(Path(config).read_bytes())   # with whatever mark an editor put first
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise AprlocError(f'{config}: not a readable YAML file ({" ".join(str(error).split())})') from None
    if not isinstance(changes, dict):
        raise AprlocError(f'{config}: must be a mapping with keys of '
                          + ', '.join(f.name for f in fields(Preset)))
    return from_mapping(Preset, _overlaid(to_mapping(PRESETS[name]), changes), str(config))


def _overlaid(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        # A network's arguments belong to its kind and backbone: they replace, they do not mix.
        mixes = isinstance(value, dict) and isinstance(base.get(key), dict) and key != 'arguments'
        merged[key] = _overlaid(base[key], value) if mixes else value
    return merged
