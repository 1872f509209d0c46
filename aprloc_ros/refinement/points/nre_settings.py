"""How much of everything `nre` looks at."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NreSettings:
    """How a pose is estimated. Sigmas are in cells of their maps."""

    scale: float = field(default=1.0, metadata={'range': (0.1, 1.0)})       # of the image's sides, before it is looked at
    views: int = field(default=12, metadata={'range': (1, 1000)})           # retrieved by similarity
    views_near_starts: int = field(default=2, metadata={'range': (0, 1000)})
    points: int = field(default=1000, metadata={'range': (4, 100_000)})
    fine_points: int = field(default=400, metadata={'range': (4, 100_000)})
    triples: int = field(default=960, metadata={'range': (1, 100_000)})     # of MSAC, at most
    coarse_cells: int = field(default=12, metadata={'range': (1, 10_000)})  # kept per loss map
    fine_cells: int = field(default=12, metadata={'range': (1, 10_000)})
    coarse_sigmas: tuple[float, ...] = field(default=(0.5,), metadata={'range': (0.1, 100.0)})
    fine_sigmas: tuple[float, ...] = field(default=(2.0,), metadata={'range': (0.1, 100.0)})
    radius: int = field(default=7, metadata={'range': (1, 64)})             # of the windows of fine maps, in cells
    metric_iterations: int = field(default=12, metadata={'range': (0, 1000)})  # of the feature-metric end, at most
    patches: int = field(default=300, metadata={'range': (0, 100_000)})     # that are looked at in the native image
    patch_iterations: int = field(default=4, metadata={'range': (0, 1000)})    # at most


# Two thirds of the time for 1.7 times the error on the demo: an image of half the pixels, fewer points, fewer hypotheses.
QUICK = NreSettings(scale=0.7, views=6, points=400, fine_points=100, triples=240, metric_iterations=6, patches=100)
