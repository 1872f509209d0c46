"""An atlas: one network that knows several maps' places, and answers in which of them an image was taken."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import yaml
from torch import nn

from aprloc_ros.catalogue import ATLAS, check_map_name, read_map_yaml
from aprloc_ros.config import from_mapping, to_mapping
from aprloc_ros.device import place, resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.manifest import Manifest, ModelSpec
from aprloc_ros.map_bundle import MapBundle, check_target, load_model, pack_weights
from aprloc_ros.networks.ms_transformer import MSTransformer
from aprloc_ros.whole_files import replace_directory

KIND = 'ms_transformer'
_WEIGHTS = 'network.safetensors'


@dataclass(frozen=True)
class Place:
    """A map that an atlas knows, and how it did on that map's held-out frames."""

    map: str
    content_hash: str     # of the capture that taught it
    accuracy: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        check_map_name(self.map)


@dataclass(frozen=True)
class AtlasManifest:
    """Everything of an atlas but its weights; the network's scenes are the places, in their order."""

    name: str
    network: ModelSpec
    places: tuple[Place, ...]

    def __post_init__(self):
        check_map_name(self.name)
        if self.network.arguments.get('scenes') != len(self.places):
            raise AprlocError(f'network.arguments.scenes must be the number of places, {len(self.places)}')
        if len({place.map for place in self.places}) < len(self.places):
            raise AprlocError('places must be of different maps')


class Guess(NamedTuple):
    """That an image was taken in a map."""

    map: str
    probability: float   # of all maps of the atlas; that it is of none of them is not among what it weighs


class Atlas:
    """Answers one image at a time."""

    def __init__(self, manifest: AtlasManifest, network: MSTransformer):
        self.manifest, self._network = manifest, network

    @torch.inference_mode()
    def which(self, image: np.ndarray) -> list[Guess]:
        """image: [H, W, 3] uint8 RGB, of any camera -> a guess for every map, the likeliest first."""
        small = cv2.resize(image, (self._network.side,) * 2, interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(small).to(next(self._network.parameters()).device).permute(2, 0, 1)[None].float() / 255
        shares = self._network(pixels)[0][0].softmax(0).tolist()
        return sorted(map(Guess, (each.map for each in self.manifest.places), shares), key=lambda guess: -guess.probability)

    def regressor(self, bundle: MapBundle) -> nn.Module:
        """What regresses poses in that map. AprlocError for a map that the atlas does not know."""
        for index, known in enumerate(self.manifest.places):
            if known.content_hash in bundle.manifest.data.hashes:
                return self._network.of_scene(index)
        raise AprlocError(f'the atlas {self.manifest.name} does not know the place of {bundle.manifest.name}; {ATLAS.cure}')

    def check_named(self, name: str, manifest: Manifest) -> None:
        """AprlocError where the map that has a name of the atlas now is not the one that it learned."""
        known, = (place for place in self.manifest.places if place.map == name)
        if known.content_hash not in manifest.data.hashes:
            raise AprlocError(f'the map {name} was built from another capture than the one that the atlas {self.manifest.name} learned '
                              f'by that name; {ATLAS.cure}')


def load_atlas(directory: Path, device: str = 'auto') -> Atlas:
    """Verify and load. AprlocError names the file that is missing, damaged or does not fit, and the cure."""
    path, target = directory / ATLAS.file_name, resolve_device(device)
    mapping = read_map_yaml(path, ATLAS)
    try:
        manifest = from_mapping(AtlasManifest, mapping, str(path))
    except AprlocError as error:
        raise AprlocError(f'{error}; {ATLAS.cure}') from None
    network = load_model(build_network, manifest.network, directory / _WEIGHTS, ATLAS)
    place(network, target)
    return Atlas(manifest, network)


def build_network(kind: str, arguments: dict[str, object]) -> MSTransformer:
    if kind != KIND:
        raise AprlocError(f'network kind {kind!r} is not {KIND}')
    return MSTransformer(**arguments)


def save_atlas(directory: Path, manifest: AtlasManifest, network: MSTransformer) -> Path:
    """Write it, all or nothing, in place of the one that is there; returns its directory."""
    weights = pack_weights(network)
    manifest = replace(manifest, network=replace(manifest.network, sha256=hashlib.sha256(weights).hexdigest()))
    text = yaml.safe_dump(to_mapping(manifest), sort_keys=False, width=120)
    return replace_directory(check_target(directory, ATLAS), {_WEIGHTS: weights, ATLAS.file_name: text.encode()})
