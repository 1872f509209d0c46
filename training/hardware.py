"""What a figure was measured on."""

import os
import platform
from pathlib import Path

import torch


def describe_hardware(device: torch.device) -> str:
    """One line: the accelerator, or the CPU model and the cores this process may use."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    info = Path('/proc/cpuinfo')
    names = [line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')] \
        if info.is_file() else []
    return f'{names[0] if names else platform.machine()}, {cores} cores'
