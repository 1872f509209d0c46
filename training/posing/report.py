"""The page of a posing: what was posed and how well, seen from above, the worst images, what to record more of."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from aprloc_ros.recordings.decoding.encoded_images import read_image
from aprloc_ros.scoring.figures import ground_axes, styled
from aprloc_ros.scoring.report import write_page
from aprloc_ros.scoring.verdict import Verdict
from aprloc_ros.training.posing.mapping import Mapped
from aprloc_ros.training.posing.posed import PosedImages

_WORST = 8
_THUMBNAIL = 360
_GOOD_SHARE, _GOOD_PX, _GOOD_POINTS = 0.9, 1.5, 100
_POINTS_DRAWN = 20_000


@dataclass(frozen=True, eq=False)
class _Support:
    """Of the posed images: points seen, and the mean distance of their projections from where they were found, px."""

    points: np.ndarray   # [N]
    error_px: np.ndarray   # [N]

    @classmethod
    def of(cls, model, names: tuple[str, ...]) -> '_Support':
        sums, counts = Counter(), Counter()
        for point in model.points3D.values():
            for element in point.track.elements:
                sums[element.image_id] += point.error
                counts[element.image_id] += 1
        number = {model.images[i].name: i for i in model.reg_image_ids()}
        points = np.array([counts[number[name]] for name in names])
        return cls(points, np.array([sums[number[name]] for name in names]) / points.clip(1))


def write_report(directory: Path, title: str, mapped: Mapped, posed: PosedImages, facts: dict[str, str]) -> Path:
    """index.html and its pictures -> its path."""
    directory.mkdir(parents=True, exist_ok=True)
    support = _Support.of(mapped.reconstruction, posed.names)
    with styled():
        figures = {'top.png': ('Top view: points grey, cameras red', _top_view(mapped.reconstruction, posed)),
                   'support.png': ('Points that each image sees, in the order of the source', _support_figure(support)),
                   'tracks.png': ('How many images see a point', _tracks_figure(mapped.reconstruction))}
        worst = _worst(mapped, posed, support)
        if worst:
            figures['worst.png'] = ('The worst images: left out, or held by the fewest points', _pictures(worst, posed.folder))
    return write_page(directory, f'Poses of {title}', {}, facts, figures, ('../posing.json',), _verdict(mapped, support),
                      advice(mapped, support.points))


def _verdict(mapped: Mapped, support: _Support) -> Verdict:
    model = mapped.reconstruction
    count = model.num_reg_images()
    share, error_px = count / (count + len(mapped.left_out)), model.compute_mean_reprojection_error()
    weak = float((support.points >= _GOOD_POINTS).mean())
    checks = {f'{share:.1%} of the images posed (at least {_GOOD_SHARE:.0%})': share >= _GOOD_SHARE,
              f'reprojection error {error_px:.2f} pixels (at most {_GOOD_PX})': error_px <= _GOOD_PX,
              f'{weak:.0%} of them see {_GOOD_POINTS} points (at least {_GOOD_SHARE:.0%})': weak >= _GOOD_SHARE}
    return Verdict(checks)


def advice(mapped: Mapped, points: np.ndarray) -> str:
    """The sentence that says what to record more of. points: that each posed image sees [N]."""
    if mapped.other_parts:
        return (f'Record the way between the parts: {sum(map(len, mapped.other_parts))} images share too little with the rest, so drive '
                f'from one part to the other without a pause.')
    if mapped.left_out:
        reason, count = Counter(reason.split(':')[0] for reason in mapped.left_out.values()).most_common(1)[0]
        return (f'Record again where images were left out ({count} for: {reason}), more slowly, and so that neighbours show at '
                f'least half of the same things.')
    weak = np.flatnonzero(points < _GOOD_POINTS)
    if len(weak):
        return (f'Record more around the {len(weak)} images that see fewer than {_GOOD_POINTS} points (the first is image '
                f'{weak[0]} in order): nearer to what has texture, and sideways.')
    return 'Nothing is missing for these images; what no image shows, the map will not know: drive every way in both directions.'


def _top_view(model, posed: PosedImages) -> Figure:
    i, j = ground_axes(posed.T_map_cam[:, :3, 1].mean(0))
    xyz = np.array([point.xyz for point in model.points3D.values()])[:: max(1, model.num_points3D() // _POINTS_DRAWN)]
    centres = posed.T_map_cam[:, :3, 3].numpy()
    figure = Figure(figsize=(9, 7), layout='constrained')
    axes = figure.subplots()
    low, high = np.quantile(xyz, (0.02, 0.98), axis=0)   # a few points are far out
    low, high = np.minimum(low, centres.min(0)), np.maximum(high, centres.max(0))
    margin = 0.1 * (high - low).max()
    axes.plot(xyz[:, i], xyz[:, j], '.', color='#9e9e9e', ms=1, alpha=0.5)
    axes.plot(centres[:, i], centres[:, j], 'o', color='#c62828', ms=3)
    axes.set(xlim=(low[i] - margin, high[i] + margin), ylim=(low[j] - margin, high[j] + margin), xlabel=f'map {"xyz"[i]}',
             ylabel=f'map {"xyz"[j]}', title=f'{len(centres)} images, {model.num_points3D()} points')
    axes.set_aspect('equal')
    return figure


def _support_figure(support: _Support) -> Figure:
    figure = Figure(figsize=(9, 4.5), layout='constrained')
    above, below = figure.subplots(2, sharex=True)
    above.plot(support.points, '.', color='#1565c0', ms=4)
    above.set(ylabel='points', ylim=(0, None))
    below.plot(support.error_px, '.', color='#c62828', ms=4)
    below.set(ylabel='reprojection error [px]', xlabel='image', ylim=(0, None))
    return figure


def _tracks_figure(model) -> Figure:
    lengths = np.array([point.track.length() for point in model.points3D.values()])
    figure = Figure(figsize=(9, 3), layout='constrained')
    axes = figure.subplots()
    axes.hist(lengths, bins=np.arange(1.5, min(lengths.max(), 40) + 1.5), color='#1565c0')
    axes.set(xlabel='images that see a point', ylabel='points', yscale='log')
    return figure


def _worst(mapped: Mapped, posed: PosedImages, support: _Support) -> dict[str, str]:
    """Name -> what is wrong with it."""
    left_out = list(mapped.left_out.items())
    shown = dict(left_out[:: max(1, len(left_out) // (_WORST // 2))][:_WORST // 2])
    for k in np.argsort(support.points, kind='stable')[:_WORST - len(shown)]:
        shown[posed.names[k]] = f'{support.points[k]} points, {support.error_px[k]:.2f} px'
    return shown


def _pictures(worst: dict[str, str], folder: Path) -> Figure:
    rows = -(-len(worst) // 4)
    figure = Figure(figsize=(12, 2.9 * rows), layout='constrained')
    for axes in figure.subplots(rows, 4, squeeze=False).ravel():
        axes.axis('off')
    for axes, (name, text) in zip(figure.axes, worst.items()):
        image = read_image(folder / name)
        scale = _THUMBNAIL / max(image.shape[:2])
        axes.imshow(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        axes.set_title(f'{name}\n{text}', fontsize=8, wrap=True)
    return figure
