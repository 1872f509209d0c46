"""`aprloc benchmark budget`: what a deadline costs, on an idle machine and on a busy one, as a table and a picture."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import torch
from tqdm import tqdm

from aprloc_ros.catalogue import find_map
from aprloc_ros.distributions import chi2_quantile
from aprloc_ros.geometry import pose_errors
from aprloc_ros.localizer import Localizer
from aprloc_ros.map_bundle import MapBundle, load_map
from aprloc_ros.refinement.refined import OUT_OF_TIME, Budget
from aprloc_ros.training.benchmarks.measures.published import Published
from aprloc_ros.training.datasets import read_capture
from aprloc_ros.training.datasets.capture import Frame
from aprloc_ros.training.hardware import describe_hardware

BUDGETS_MS = (20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1000.0)
BUSY_PROCESSES = 4
_INSIDE_95 = chi2_quantile(0.95, 6)


@dataclass(frozen=True)
class Row:
    """What became of the frames under one budget."""

    budget_ms: float
    frames: int
    answered: int
    quick: int            # of these, by the quick refiner
    out_of_time: int
    median_m: float
    p95_m: float
    beyond_5_sigma: int   # of the published poses
    inside_95: int

    def cells(self) -> tuple[str, ...]:
        if not self.answered:
            return f'{self.budget_ms:g}', '0 %', '-', f'{self.out_of_time / self.frames:.0%}', '-', '-', '-', '-'
        return (f'{self.budget_ms:g}', f'{self.answered / self.frames:.0%}', f'{self.quick / self.answered:.0%}',
                f'{self.out_of_time / self.frames:.0%}', f'{100 * self.median_m:.2f}', f'{100 * self.p95_m:.2f}',
                f'{self.beyond_5_sigma} of {self.answered}', f'{self.inside_95 / self.answered:.1%}')


def benchmark_budget(options):
    """Answered share, error and honesty against the time that a refinement may take, idle and beside busy processes."""
    bundle = load_map(find_map(options.name, options.map_dir), options.device)
    frames = read_capture(options.data).test[::options.every]
    print(f'{options.name}: {len(frames)} held-out frames a row, each by itself, on {describe_hardware(torch.device("cpu"))}')
    rows = {}
    for processes in (0, BUSY_PROCESSES):
        name = f'beside {processes} busy processes' if processes else 'idle'
        print(f'\n{name}\n| refine_ms | answered | of these quick | out of time | median cm | p95 cm | beyond 5 sigma '
              '| in the 95 % ellipsoid |\n|' + '---|' * 8, flush=True)
        rows[name] = []
        with busy(processes):
            for budget_ms in BUDGETS_MS:
                rows[name].append(_row(bundle, frames, budget_ms, options.device))
                print(f'| {" | ".join(rows[name][-1].cells())} |', flush=True)
    every = [row for part in rows.values() for row in part]
    answered, beyond, inside = (sum(getattr(row, key) for row in every) for key in ('answered', 'beyond_5_sigma', 'inside_95'))
    print(f'\nall: {answered} published poses, {beyond} beyond 5 sigma, {inside / max(answered, 1):.1%} in the 95 % ellipsoid')
    if options.plot:
        print(f'answered share and error: {_plot(rows, options.plot)}')


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """With so many processes beside this one that do nothing but keep a core busy."""
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _row(bundle: MapBundle, frames: tuple[Frame, ...], budget_ms: float, device: str) -> Row:
    localizer = Localizer(bundle, device, budget=Budget(milliseconds=budget_ms))
    localizer.warm_up()
    found = [localizer.localize(frame.read_image(), frame.camera)
             for frame in tqdm(frames, desc=f'{budget_ms:g} ms', leave=False, mininterval=2.0)]
    late, published = sum(estimate.reason == OUT_OF_TIME for estimate in found), Published.of(found, frames)
    if not published:
        return Row(budget_ms, len(frames), 0, 0, late, float('nan'), float('nan'), 0, 0)
    quick = sum(e.status != 'rejected' and e.refiner != localizer.refiner_name for e in found)
    error_m, _ = pose_errors(published.T_map_cam, published.T_truth)
    return Row(budget_ms, len(frames), len(published), quick, late, error_m.median().item(), error_m.quantile(0.95).item(),
               published.beyond, int((published.squared <= _INSIDE_95).sum()))


def _plot(rows: dict[str, list[Row]], path: Path) -> Path:
    """Two panels over the budget: how many are answered, and how well. Returns the written file."""
    figure, (share, error) = plt.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    for name, part in rows.items():
        x = [row.budget_ms for row in part]
        line, = share.plot(x, [100 * row.answered / row.frames for row in part], marker='o', label=name)
        share.plot(x, [100 * row.quick / row.frames for row in part], marker='.', linestyle=':', color=line.get_color(),
                   label=f'{name}, by the quick refiner')
        error.plot(x, [100 * row.median_m for row in part], marker='o', color=line.get_color(), label=f'{name}: median')
        error.plot(x, [100 * row.p95_m for row in part], marker='.', linestyle='--', color=line.get_color(),
                   label=f'{name}: 95th percentile')
    share.set(title='answered frames, %', ylim=(-3, 103))
    error.set(title='error of the answered, cm', ylim=(0, None))
    for axis in (share, error):
        axis.set(xlabel='refine_ms', xscale='log', xticks=BUDGETS_MS[::2], xticklabels=[f'{ms:g}' for ms in BUDGETS_MS[::2]])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.18), ncol=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
