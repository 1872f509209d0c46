"""The extractor and the neural reprojection error, against PyTorch's own softmax and interpolation."""

import pytest
import torch
from torch.nn import functional as F

from aprloc_ros.camera import Camera
from aprloc_ros.errors import AprlocError
from aprloc_ros.geometry import so3_exp
from aprloc_ros.networks.extractor import Extractor, build_extractor
from aprloc_ros.training.stages.descriptors import descriptor_camera
from aprloc_ros.training.stages.nre_loss import nre, sample, to_cells
from aprloc_ros.training.stages.partition import log_partition


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize(('height', 'width'), [(48, 64), (64, 32)])
def test_maps_have_their_strides_and_unit_length(height, width):
    torch.manual_seed(0)   # an untrained network may be silent somewhere
    features = Extractor(coarse_channels=12, fine_channels=6).eval()(torch.rand(2, 3, height, width))
    assert features.coarse.shape == (2, 12, height // 8, width // 8)
    assert features.fine.shape == (2, 6, height // 2, width // 2)
    for maps in (features.coarse, features.fine):
        torch.testing.assert_close(maps.norm(dim=1), torch.ones_like(maps[:, 0]))
    assert features[1:].fine.shape[0] == 1


def test_cells_follow_the_image():
    """A pattern moved by whole fine cells moves the fine map by as many cells, away from the border."""
    torch.manual_seed(0)
    model = Extractor().eval()
    image = torch.rand(1, 3, 160, 192)
    moved = torch.roll(image, (32, 32), (2, 3))       # the stride of the coarsest level
    first, second = model(image).fine, model(moved).fine
    torch.testing.assert_close(second[..., 56:-24, 56:-24], first[..., 40:-40, 40:-40], atol=5e-2, rtol=0)


def test_resnet_can_be_its_backbone_and_vgg_cannot():
    model = build_extractor('nre', {'backbone': 'resnet34', 'width': 0.25}).eval()
    assert model(torch.rand(1, 3, 32, 32)).fine.shape[-1] == 16
    with pytest.raises(AprlocError, match='strides'):
        build_extractor('nre', {'backbone': 'vgg16', 'width': 0.25})


@pytest.mark.parametrize(('kind', 'arguments', 'words'), [
    ('sift', {}, "'sift' is not nre"), ('nre', {'colour': 1}, "no argument 'colour'"),
    ('nre', {'fine_channels': 0}, 'fine_channels is 0'), ('nre', {'backbone': 'lenet'}, "'lenet' is not one of")])
def test_bad_arguments_are_named(kind, arguments, words):
    with pytest.raises(AprlocError, match=words):
        build_extractor(kind, arguments)


def test_the_loss_is_the_interpolated_negative_log_softmax():
    """Eq. 4 with s_n = 1, written out: bilinear weights of Eq. 3 on -ln C."""
    h, maps = unit(5, 8), unit(1, 8, 6, 9)[0]
    cells = torch.tensor([[0.0, 0.0], [3.25, 2.5], [8.0, 5.0], [7.9, 0.1], [4.0, 4.75]])
    scale = torch.tensor(7.0)
    loss_maps = -torch.log_softmax((scale * h @ maps.flatten(1)), -1).view(5, 6, 9)
    expected = []
    for n, (x, y) in enumerate(cells.tolist()):
        x0, y0 = min(int(x), 7), min(int(y), 4)
        u, v = x - x0, y - y0
        expected.append((1 - u) * (1 - v) * loss_maps[n, y0, x0] + u * (1 - v) * loss_maps[n, y0, x0 + 1]
                        + (1 - u) * v * loss_maps[n, y0 + 1, x0] + u * v * loss_maps[n, y0 + 1, x0 + 1])
    torch.testing.assert_close(nre(h, maps, scale, cells), torch.stack(expected))


def test_the_partition_has_the_value_and_slopes_of_pytorchs_own():
    h, cells, weights = (torch.randn(*shape, requires_grad=True) for shape in ((70, 6), (6, 300), (70,)))
    direct, found = (h @ cells).logsumexp(-1), log_partition(h, cells)
    torch.testing.assert_close(found, direct)
    for mine, theirs in zip(*(torch.autograd.grad((x * weights).sum(), (h, cells)) for x in (found, direct))):
        torch.testing.assert_close(mine, theirs)


def test_sampling_at_cell_centres_reads_the_cells():
    maps = unit(1, 3, 4, 5)[0]
    v, u = torch.meshgrid(torch.arange(4), torch.arange(5), indexing='ij')
    cells = torch.stack([u, v], -1).view(-1, 2).float()
    torch.testing.assert_close(sample(maps, cells), maps.flatten(1).T)


def test_cells_are_those_of_the_resized_camera():
    camera = Camera(64, 48, 60.0, 61.0, 30.7, 22.9)
    R = so3_exp(torch.tensor([0.05, -0.1, 0.02], dtype=torch.float64))
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ R + torch.tensor([-0.5, -0.5, 2])
    pixels, _ = camera.project(points)
    for stride in (2, 8):
        cells, _ = camera.resized(64 // stride, 48 // stride).project(points)
        torch.testing.assert_close(to_cells(pixels, stride), cells)


@pytest.mark.parametrize(('size', 'short_side', 'expected'), [
    ((640, 480), 240, (320, 240)), ((360, 640), 240, (240, 432)), ((100, 80), 500, (96, 80)), ((20, 17), 8, (16, 16))])
def test_the_extractors_camera_divides_into_cells(size, short_side, expected):
    camera = descriptor_camera(Camera(*size, 500.0, 500.0, size[0] / 2, size[1] / 2), short_side)
    assert (camera.width, camera.height) == expected
