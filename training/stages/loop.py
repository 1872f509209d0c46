"""The loop that every training stage runs in: progress, curves, checkpoints, several processes."""

import atexit
import csv
import io
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from aprloc_ros.device import resolve_device
from aprloc_ros.errors import AprlocError
from aprloc_ros.whole_files import replace_file

_LOG_EVERY = 20


def check_length(steps: int, epochs: int) -> None:
    """AprlocError for a training of no length."""
    if not (steps or epochs):
        raise AprlocError('steps and epochs are both 0; one of them must say how long the training takes')


def make_fabric(device: str) -> Fabric:
    """Device, precision and process group: 'auto', 'cpu' or 'cuda'; under torchrun one process of the group.

    bfloat16 autocast on CUDA, float32 on a CPU.
    """
    kind = resolve_device(device).type
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    fabric = Fabric(accelerator='cuda' if kind == 'cuda' else 'cpu', devices=processes,
                    num_nodes=int(os.environ.get('WORLD_SIZE', str(processes))) // processes,
                    strategy='ddp' if processes > 1 else 'auto',
                    precision='bf16-mixed' if kind == 'cuda' else '32-true')
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave_process_group)
    return fabric


def _leave_process_group():
    """Gloo's threads have to end before the interpreter does, or it aborts now and then after the work is done."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def step_generator(fabric: Fabric, seed: int, step: int) -> torch.Generator:
    """Random numbers of one step and process: a resumed run draws what the uninterrupted one would have."""
    stream = (seed * 1_000_003 + step) * fabric.world_size + fabric.global_rank
    return torch.Generator(device=fabric.device).manual_seed(stream)


def draw(limit: int, count: int, generator: torch.Generator) -> Tensor:
    """Random whole numbers below the limit, [count], on the generator's device."""
    return torch.randint(limit, (count,), generator=generator, device=generator.device)


def warm_cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """A linear rise over a tenth of the steps, 100 at most, then a cosine down to zero."""
    warm_up = max(1, min(100, steps // 10))
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [
        torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warm_up),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warm_up))], [warm_up])


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]):
    """Mean of the gradients over all processes; nothing to do for one."""
    if fabric.world_size == 1:
        return
    for parameter in parameters:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = fabric.all_reduce(gradient, reduce_op='mean')


def average_buffers(fabric: Fabric, model: nn.Module):
    """Mean of the floating-point buffers (running statistics) over all processes, so that all score the same model."""
    if fabric.world_size == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(fabric.all_reduce(buffer.clone(), reduce_op='mean'))


def write_atomically(path: Path, content):
    """torch.save that leaves either the old file or the new one, whenever it is killed. Raises Unwritten."""
    buffer = io.BytesIO()
    torch.save(content, buffer)   # into a file it hides that the disk is full
    replace_file(path, buffer.getbuffer())


class Loop:
    """Iterates over the steps of a stage; continues where the last checkpoint ended.

    `parts` are everything with state_dict/load_state_dict that a step changes; `memory` is a plain mapping of tensors
    and numbers of the stage's own, saved with them. The curve goes to `<directory>/<name>.csv`.
    """

    def __init__(self, name: str, fabric: Fabric, directory: Path, steps: int, parts: dict, memory: dict,
                 checkpoint_every_s: float = 60.0):
        self.name, self.fabric, self.steps, self.parts, self.memory = name, fabric, steps, parts, memory
        self.checkpoint, self.curve = directory / f'{name}.ckpt', directory / f'{name}.csv'
        self.checkpoint_every_s = checkpoint_every_s
        self.step, self.spent_s, self.stopped = 0, 0.0, False
        self._rows: list[dict] = []
        if self.checkpoint.exists():
            self._resume()

    def _resume(self):
        saved = torch.load(self.checkpoint, map_location=self.fabric.device, weights_only=True)
        for key, part in self.parts.items():
            part.load_state_dict(saved['parts'][key])
        self.memory.update(saved['memory'])
        self.step, self.spent_s, self._rows = saved['step'], saved['spent_s'], saved['rows']
        self.stopped = saved['stopped']

    def save(self):
        """Write checkpoint and curve; only the first process does."""
        if self.fabric.global_rank:
            return
        write_atomically(self.checkpoint, {
            'parts': {key: part.state_dict() for key, part in self.parts.items()}, 'memory': self.memory,
            'step': self.step, 'spent_s': self.spent_s, 'rows': self._rows, 'stopped': self.stopped})
        if self._rows:
            with open(self.curve, 'w', newline='') as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for row in self._rows for key in row)))
                writer.writeheader()
                writer.writerows(self._rows)

    def __iter__(self) -> Iterator[int]:
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, disable=bool(self.fabric.global_rank),
                   mininterval=2.0, dynamic_ncols=True)
        self._bar, last_save = bar, time.monotonic()
        while self.step < self.steps and not self.stopped:
            begin = time.monotonic()
            yield self.step
            self.step += 1
            bar.update()
            self.spent_s += time.monotonic() - begin
            if time.monotonic() - last_save > self.checkpoint_every_s:
                self.save()
                last_save = time.monotonic()
        bar.close()
        self.save()

    def log(self, **values: Tensor | float):
        """Note values of this step: every 20th goes to the curve and the progress line; always, with `force=True`."""
        force = values.pop('force', False)
        if self.step % _LOG_EVERY and not force:
            return
        values = {key: round(float(value.detach() if isinstance(value, Tensor) else value), 5)
                  for key, value in values.items()}
        self._rows.append({'step': self.step, 'seconds': round(self.spent_s, 1), **values})
        self._bar.set_postfix(values, refresh=False)

    def stop(self):
        """End after this step (early stopping)."""
        self.stopped = True
