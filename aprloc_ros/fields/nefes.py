"""NeFeS (section 3.2): the histogram-assisted NeRF with features beside the static colour."""

from torch import nn

from aprloc_ros.fields.exposure import AffineColour, Exposure
from aprloc_ros.fields.fusion import Fusion
from aprloc_ros.fields.nerf import NerfHist


class Nefes(NerfHist):
    """Static density, colour and features, transient density and colour, at the authors' sizes.

    The features depend on the position alone: no direction, no exposure. exposure: 'act' transforms rendered colours,
    as in the paper; 'embedding' feeds the static colour heads, as DFNet does. fusion_hidden: 0 leaves the network out.
    """

    def __init__(self, bands: int = 10, direction_bands: int = 4, depth: int = 8, width: int = 128,
                 coarse_samples: int = 64, fine_samples: int = 64, exposure: Exposure = 'act',
                 static_embedding: int = 50, transient_embedding: int = 20, beta_min: float = 0.1,
                 feature_channels: int = 128, fusion_hidden: int = 64):
        super().__init__(bands, direction_bands, depth, width, coarse_samples, fine_samples,
                         static_embedding if exposure == 'embedding' else 0, transient_embedding, beta_min)
        self.act = AffineColour() if exposure == 'act' else None
        self.feature_channels = feature_channels
        self.feature_head = nn.Linear(width, feature_channels) if feature_channels else None
        self.fusion = Fusion(feature_channels, fusion_hidden) if feature_channels and fusion_hidden else None
