"""How a map's held-out scores moved with training time, as a picture."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from aprloc_ros.map_bundle import MapBundle

_PANELS = (('field', 1, 'PSNR of the field, dB'), ('regressor', 1, 'median error of the regressor, m'),
           ('regressor', 2, 'median error of the regressor, deg'))


def plot_histories(bundles: dict[str, MapBundle], path: Path) -> Path:
    """One panel a score, one line a map; on frames that were held out of training. Returns the written file."""
    figure, axes = plt.subplots(1, len(_PANELS), figsize=(13, 3.8), constrained_layout=True)
    for axis, (stage, column, label) in zip(axes, _PANELS):
        for name, bundle in bundles.items():
            rows = bundle.manifest.history.get(stage, [])
            axis.plot([row[0] / 60 for row in rows], [row[column] for row in rows], marker='.', label=name)
        axis.set(xlabel='training time of the stage, minutes', title=label, xlim=(0, None))
        if stage == 'regressor':
            axis.set_yscale('log')
        axis.grid(alpha=0.3, which='both')
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
