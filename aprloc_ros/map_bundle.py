"""A map on disk: `map.yaml` and the weights of two networks. Save, verify, load; no code from a map runs."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aprloc_ros.catalogue import ATLAS, FILE_NAME, MAP, Kind
from aprloc_ros.device import place, resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.fields import build_field
from aprloc_ros.manifest import Manifest, ModelSpec, manifest_text, read_manifest
from aprloc_ros.networks import CoordinateRegressor, build_regressor
from aprloc_ros.networks.extractor import build_extractor
from aprloc_ros.points import MapPoints, move_packed, pack_points, unpack_points
from aprloc_ros.similarity import Similarity
from aprloc_ros.whole_files import replace_directory, replace_file

REGRESSOR_FILE = 'regressor.safetensors'
FIELD_FILE = 'field.safetensors'
EXTRACTOR_FILE = 'extractor.safetensors'
POINTS_FILE = 'points.safetensors'
_MAX_WEIGHTS_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class MapBundle:
    """A loaded map: networks in evaluation mode, float32."""

    manifest: Manifest
    regressor: nn.Module
    field: nn.Module
    directory: Path
    extractor: nn.Module | None = None   # None: a map without learned descriptors
    points: MapPoints | None = None

    @property
    def sha256(self) -> str:
        """Of all that it is: of the manifest on disk, which holds those of the weights."""
        return hashlib.sha256((self.directory / FILE_NAME).read_bytes()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Of the whole map on disk."""
        names = (FILE_NAME, REGRESSOR_FILE, FIELD_FILE, *((EXTRACTOR_FILE, POINTS_FILE) if self.points else ()))
        return sum((self.directory / name).stat().st_size for name in names)


def load_map(directory: str | Path, device: str = 'auto') -> MapBundle:
    """Verify and load a map. AprlocError names the file that is missing, damaged or does not fit, and the cure."""
    directory = Path(directory)
    target = resolve_device(device)
    manifest = read_manifest(directory / FILE_NAME)
    regressor = load_model(build_regressor, manifest.regressor, directory / REGRESSOR_FILE)
    field = load_model(build_field, manifest.field, directory / FIELD_FILE)
    place(field, place(regressor, target))
    if manifest.descriptors is None:
        if isinstance(regressor, CoordinateRegressor):
            raise AprlocError(f'{directory / FILE_NAME}: a regressor of kind coordinates needs descriptors; {MAP.cure}')
        return MapBundle(manifest, regressor, field, directory)
    extractor = load_model(build_extractor, manifest.descriptors.extractor, directory / EXTRACTOR_FILE)
    path = directory / POINTS_FILE
    points = unpack_points(_read_weights(path, manifest.descriptors.points_sha256), f'{path}; {MAP.cure}')
    place(extractor, target)
    if isinstance(regressor, CoordinateRegressor):
        regressor.see_through(extractor, manifest.camera)
    return MapBundle(manifest, regressor, field, directory, extractor, points)


def load_model(build: Callable[[str, dict], nn.Module], spec: ModelSpec, path: Path, kind: Kind = MAP) -> nn.Module:
    """Build the model and fill it with the weights, after their hash, names and shapes have been checked."""
    weights = _read_weights(path, spec.sha256, kind)
    try:
        model = build(spec.kind, spec.arguments)
    except (AprlocError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise AprlocError(f'{path.parent / kind.file_name}: no model {spec.kind[:80]!r}: {reason}; {kind.cure}') from None
    expected = model.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        wanted, got = expected.get(name), weights.get(name)
        if wanted is None or got is None:
            raise AprlocError(f'{path}: the weights {name[:80]!r} are {"missing" if got is None else "unknown"}; {kind.cure}')
        if wanted.shape != got.shape or wanted.is_floating_point() != got.is_floating_point():
            raise AprlocError(f'{path}: {name} is {got.dtype} {list(got.shape)} but the model {spec.kind} has '
                              f'{wanted.dtype} {list(wanted.shape)}; {kind.cure}')
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def _read_weights(path: Path, sha256: str, kind: Kind = MAP) -> dict[str, Tensor]:
    try:
        size = path.stat().st_size
        if not path.is_file() or size > _MAX_WEIGHTS_BYTES:
            raise AprlocError(f'{path}: not a file of at most {_MAX_WEIGHTS_BYTES} bytes; {kind.cure}')
        content = path.read_bytes()
    except OSError as error:
        raise AprlocError(f'{path}: {error.strerror}; {kind.cure}') from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise AprlocError(f'{path}: damaged or not of this map (its sha256 is not the one in {kind.file_name}); {kind.cure}')
    try:
        weights = safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise AprlocError(f'{path}: not a safetensors file ({str(error).splitlines()[0]}); {kind.cure}') from None
    if not all(torch.isfinite(w).all() for w in weights.values() if w.is_floating_point()):
        raise AprlocError(f'{path}: the weights hold NaN or infinity; {kind.cure}')
    return weights


def check_target(directory: str | Path, kind: Kind = MAP) -> Path:
    """The absolute path of the directory when one of that kind may be written there: it is absent, empty or one already."""
    target = Path(directory).resolve()
    held = [other for other in (MAP, ATLAS) if (target / other.file_name).is_file()]
    if held != [kind] and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AprlocError(f'{target}: exists and is not {kind.what}{" alone" if kind in held else ""}; choose another name or remove it')
    return target


def save_map(directory: str | Path, manifest: Manifest, regressor: nn.Module, field: nn.Module,
             extractor: nn.Module | None = None, points: MapPoints | None = None,
             curves: Mapping[str, bytes] = MappingProxyType({})) -> Path:
    """Write the map, all or nothing, in place of the one that is there; returns its directory.

    extractor, points: of a manifest with descriptors, both or neither. curves: content of training curves by file name (`field.csv`), kept beside the weights for whoever wants to see.

    Everything is written and synchronised beside the target and renamed into place, so that a crash at any moment
    leaves the old map, the new one or none. Weights are stored in half precision.
    """
    target = check_target(directory)
    contents = {REGRESSOR_FILE: pack_weights(regressor), FIELD_FILE: pack_weights(field)}
    if manifest.descriptors is not None:
        contents[EXTRACTOR_FILE] = pack_weights(extractor)
        contents[POINTS_FILE] = safetensors.torch.save(pack_points(points))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return replace_directory(target, {**curves, **contents, FILE_NAME: manifest_text(_with_hashes(manifest, hashes)).encode()})


def save_moved(directory: Path, manifest: Manifest, change: Similarity) -> Manifest:
    """Give a map its manifest of another frame, and that frame to its points, all or nothing -> the manifest as written.

    All its other files stay as they are, bit for bit.
    """
    changed = {}
    if manifest.descriptors is not None:
        tensors = _read_weights(check_target(directory) / POINTS_FILE, manifest.descriptors.points_sha256)
        changed[POINTS_FILE] = safetensors.torch.save(move_packed(tensors, change))
        sha256 = hashlib.sha256(changed[POINTS_FILE]).hexdigest()
        manifest = replace(manifest, descriptors=replace(manifest.descriptors, points_sha256=sha256))
    _replace_some(directory, manifest, changed)
    return manifest


def save_regressor(directory: Path, manifest: Manifest, regressor: nn.Module) -> None:
    """Give a map another regressor of the same kind and the manifest that goes with it, all or nothing.

    All its other files stay as they are, bit for bit.
    """
    weights = pack_weights(regressor)
    spec = replace(manifest.regressor, sha256=hashlib.sha256(weights).hexdigest())
    _replace_some(directory, replace(manifest, regressor=spec), {REGRESSOR_FILE: weights})


def _replace_some(directory: Path, manifest: Manifest, changed: Mapping[str, bytes]) -> None:
    """Some of a map's files, by name, and its manifest."""
    target = check_target(directory)
    kept = {path.name: path.read_bytes() for path in target.iterdir() if path.is_file()}
    replace_directory(target, {**kept, **changed, FILE_NAME: manifest_text(manifest).encode()})


def save_manifest(directory: Path, manifest: Manifest) -> None:
    """Give a map another manifest of the same weights, all or nothing."""
    replace_file(directory / FILE_NAME, manifest_text(manifest).encode())


def _with_hashes(manifest: Manifest, hashes: Mapping[str, str]) -> Manifest:
    manifest = replace(manifest, regressor=replace(manifest.regressor, sha256=hashes[REGRESSOR_FILE]),
                       field=replace(manifest.field, sha256=hashes[FIELD_FILE]))
    if manifest.descriptors is None:
        return manifest
    extractor = replace(manifest.descriptors.extractor, sha256=hashes[EXTRACTOR_FILE])
    return replace(manifest, descriptors=replace(manifest.descriptors, extractor=extractor,
                                                 points_sha256=hashes[POINTS_FILE]))


def pack_weights(model: nn.Module) -> bytes:
    """Weights as safetensors, floating point ones in half precision where their range allows it."""
    weights = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if not torch.isfinite(tensor).all():
            raise AprlocError(f'the weights {name} hold NaN or infinity; training diverged: lower the learning rate')
        if tensor.is_floating_point():
            half = tensor.half()
            tensor = half if torch.isfinite(half).all() else tensor.float()
        weights[name] = tensor.clone()
    return safetensors.torch.save(weights)
