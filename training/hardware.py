"""What a figure was measured on."""

import os
import platform
from pathlib import Path

import torch


def usable_cores() -> int:
    """That this process may use, as far as the system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def describe_hardware(device: torch.device) -> str:
    """One line: the accelerator, or the CPU model and the cores this process may use."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    names = [line.split(':', 1)[1].strip() for line in info.read_text().splitlines() if line.startswith('model name')] \
        if info.is_file() else []
    return f'{names[0] if names else platform.machine()}, {usable_cores()} cores'
