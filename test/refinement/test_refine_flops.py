"""Counted operations against those of the formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aprloc_ros.training.benchmarks.measures.flops import count_flops


def test_a_matrix_product_and_its_backward():
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    forward, ones = 2 * 3 * 5 * 7, torch.ones(3, 7)
    assert count_flops(lambda: (a @ b).backward(ones)) == 3 * forward


def test_a_convolution_counts_the_same_in_every_mode():
    layer, image = nn.Conv2d(4, 6, 3, padding=1, bias=False), torch.randn(2, 4, 8, 10)
    expected = 2 * 2 * 6 * 8 * 10 * 4 * 9
    assert count_flops(lambda: layer(image)) == expected
    with torch.inference_mode():
        assert count_flops(lambda: layer(image)) == expected
    with torch.no_grad():
        assert count_flops(lambda: layer(image)) == expected


def test_a_linear_layer_counts_under_inference_mode():
    layer, x = nn.Linear(5, 7), torch.randn(11, 5)
    with torch.inference_mode():
        assert count_flops(lambda: layer(x)) == pytest.approx(2 * 11 * 5 * 7, rel=0.15)   # with or without the bias


@pytest.mark.parametrize('size, taps', [((6, 6), 4), ((6, 6, 6), 8)])
def test_sampling_a_grid_counts_its_taps(size, taps):
    grid = torch.randn(1, 3, *size, requires_grad=True)
    where = torch.rand(1, *(1,) * (len(size) - 1), 20, len(size))
    forward = 2 * taps * 3 * 20

    def sample():
        return F.grid_sample(grid, where, align_corners=True)
    assert count_flops(sample) == forward
    assert count_flops(lambda: sample().backward(torch.ones(1, 3, *(1,) * (len(size) - 1), 20))) == 2 * forward


def test_pointwise_arithmetic_and_sums():
    a, b = torch.randn(4, 9), torch.randn(4, 9)
    assert count_flops(lambda: a * b + a) == 2 * 36
    assert count_flops(lambda: a.sum(1)) == 36
