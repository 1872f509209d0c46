"""Where the networks run: one name, given once."""

import logging
import re

import torch
from torch import nn

from aprloc_ros.errors import AprlocError

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """'auto' (CUDA if present, else CPU), 'cpu', 'cuda' or 'cuda:N' -> the device. AprlocError for any other name."""
    if name == 'auto':
        return torch.device('cuda', 0) if torch.cuda.is_available() else torch.device('cpu')
    if name == 'cpu':
        return torch.device('cpu')
    match = re.fullmatch(r'cuda(?::(\d{1,3}))?', name) if isinstance(name, str) else None
    if not match:
        raise AprlocError(f'device is {name!r}; it must be auto, cpu, cuda or cuda:N')
    index, count = int(match[1] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise AprlocError(f'device is {name!r} but this machine has {count} CUDA devices; use auto or cpu')
    return torch.device('cuda', index)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the accelerator ran out of memory; cuDNN and cuBLAS say so in words only."""
    text = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError) or 'out of memory' in text or 'alloc_failed' in text


def place(module: nn.Module, device: torch.device) -> torch.device:
    """Move the module to the device, or to the CPU (with a warning) when its memory is full; returns where it went."""
    try:
        module.to(device)
        return device
    except RuntimeError as error:
        if device.type == 'cpu' or not is_out_of_memory(error):
            raise
    logger.warning('%s is out of memory: continuing on the CPU', device)
    module.to('cpu')
    return torch.device('cpu')
