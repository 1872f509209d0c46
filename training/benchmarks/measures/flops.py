"""How much arithmetic something takes: the floating-point operations of whatever it runs in PyTorch."""

import math
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

_ATEN = torch.ops.aten
# Operations for each number of the result. Activations count one, however they are computed.
_POINTWISE = {
    _ATEN.add: 1, _ATEN.sub: 1, _ATEN.rsub: 1, _ATEN.mul: 1, _ATEN.div: 1, _ATEN.exp: 1, _ATEN.expm1: 1, _ATEN.sin: 1,
    _ATEN.cos: 1, _ATEN.relu: 1, _ATEN.sigmoid: 1, _ATEN.softplus: 1, _ATEN.addcmul: 3, _ATEN.lerp: 3}


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of a call, of the backward passes inside it too.

    A multiplication with an addition counts two. Counted are matrix products and convolutions (as PyTorch counts them),
    sampling of grids, sums and pointwise arithmetic; not counted: indexing, comparisons, optimisers' updates and the
    factorisation of small matrices.
    """
    mapping = {_ATEN.grid_sampler_2d: _sampling(4), _ATEN.grid_sampler_3d: _sampling(8),
               _ATEN.grid_sampler_2d_backward: _sampling_backward(4),
               _ATEN.grid_sampler_3d_backward: _sampling_backward(8), _ATEN.sum: _sum,
               **{op: _pointwise(each) for op, each in _POINTWISE.items()}}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def _pointwise(each: int) -> Callable[..., int]:
    def formula(*shapes, out_shape, **options):
        return each * math.prod(out_shape)
    return formula


def _sum(summed, *arguments, out_shape, **options) -> int:
    return math.prod(summed)


def _sampling(taps: int) -> Callable[..., int]:
    def formula(*shapes, out_shape, **options):
        return 2 * taps * math.prod(out_shape)
    return formula


def _sampling_backward(taps: int) -> Callable[..., int]:
    """Of the sampled grid as much as forward, of the positions twice that."""
    def formula(gradient, *arguments, out_shape, **options):
        to_grid, to_positions = arguments[-1]
        return 2 * taps * math.prod(gradient) * (to_grid + 2 * to_positions)
    return formula
