"""What every field is to those who render and train it."""

from torch import nn


class Field(nn.Module):
    """The interface of all kinds.

    `fine` (and `coarse`, where `fine_samples` is not 0) answer for points along rays; `act` and `fusion` work on what
    was rendered. Parameters and modules of the features are named `feature_...` and `fusion`, nothing else is.
    """

    coarse_samples: int              # per ray
    fine_samples: int                # per ray; 0: one pass alone
    reuses_coarse_samples = False    # whether the fine pass also looks where the coarse one did
    beta_min = 0.0                   # of the colour's uncertainty

    def __init__(self):
        super().__init__()
        self.feature_channels = 0    # N_f; 0: renders no features
        self.feature_head = None     # hidden state of a point -> N_f
        self.act = None              # exposure.AffineColour, for a field with that transform
        self.fusion = None           # fusion.Fusion, for a field with that network

    def set_progress(self, progress: float):
        """Share of a coarse-to-fine schedule that has passed, 0 to 1; nothing for a field without one."""

    def feature_parameters(self) -> list[nn.Parameter]:
        """Those that neither density nor colour depends on."""
        return [p for name, p in self.named_parameters() if name.startswith(('feature_', 'fusion.'))]

    def spatial_parameters(self) -> list[nn.Parameter]:
        """Planes and grids: stored in space, so that each value is touched by few rays."""
        return [p for name, p in self.named_parameters() if p.ndim > 2 and not name.startswith('fusion.')]
