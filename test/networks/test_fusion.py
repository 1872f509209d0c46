"""Networks for queries: batch normalisations folded into convolutions, and the same answers."""

import pytest
import torch
from torch import nn

from aprloc_ros.networks import build_regressor
from aprloc_ros.networks.backbones import BACKBONES
from aprloc_ros.networks.extractor import build_extractor
from aprloc_ros.networks.fusion import fused


def lived(network):
    """With running statistics and scales as a training leaves them: none is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 2.0),
                                      (module.weight.data, 0.5, 1.5), (module.bias.data, -0.1, 0.1)):
                values.copy_(low + (high - low) * torch.rand(len(values), generator=generator))
    return network


@pytest.mark.parametrize('backbone', BACKBONES)
@torch.inference_mode()
def test_a_regressor_answers_the_same(backbone):
    torch.manual_seed(0)
    network = lived(build_regressor('posenet', {'backbone': backbone, 'width': 0.25})).eval()
    quick = fused(network)
    image = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(quick(image), network(image), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())


@torch.inference_mode()
def test_an_extractor_answers_the_same_and_the_original_is_left_as_it_was():
    torch.manual_seed(0)
    network = lived(build_extractor('nre', {})).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quick, image = fused(network), torch.rand(1, 3, 64, 96)
    for name in ('coarse', 'fine'):
        torch.testing.assert_close(getattr(quick(image), name), getattr(network(image), name), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_without_batch_normalisation_is_itself():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert fused(network) is network
