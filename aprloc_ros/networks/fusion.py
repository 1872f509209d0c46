"""Networks for queries alone: what a batch normalisation does is folded into the convolution before it."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fused(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, on the device of the original, that answers the same but for rounding, in less time.

    A BatchNorm that follows a convolution among a module's children is taken to follow it in `forward` too, as it does in
    all networks here. A network without any is returned itself.
    """
    network = network.eval()
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for (before, convolution), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(convolution, norm))
                setattr(module, after, nn.Identity())
    return network.to(memory_format=torch.channels_last)
