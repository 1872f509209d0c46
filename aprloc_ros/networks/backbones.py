"""The backbones by name."""

from aprloc_ros.errors import AprlocError
from aprloc_ros.networks.compact import Compact
from aprloc_ros.networks.efficientnet import EfficientNetB0, EfficientNetLite0
from aprloc_ros.networks.layers import Backbone
from aprloc_ros.networks.mobilenet_v2 import MobileNetV2
from aprloc_ros.networks.resnet import ResNet34
from aprloc_ros.networks.vgg import VGG16

BACKBONES: dict[str, type[Backbone]] = {
    backbone.name: backbone for backbone in (MobileNetV2, ResNet34, VGG16, EfficientNetB0, EfficientNetLite0, Compact)}
WIDTH_RANGE = (0.1, 2.0)


def build_backbone(name: str, width: float = 1.0) -> Backbone:
    """A backbone with random weights. Raises AprlocError for an unknown name or a width outside WIDTH_RANGE."""
    if name not in list(BACKBONES):
        raise AprlocError(f'backbone {name!r} is not one of {", ".join(BACKBONES)}')
    low, high = WIDTH_RANGE
    if type(width) not in (int, float) or not low <= width <= high:
        raise AprlocError(f'width {width!r} must be a number from {low} to {high}')
    return BACKBONES[name](width)
