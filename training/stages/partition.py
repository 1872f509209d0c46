"""The sum over all cells in a softmax, for many descriptors at once, in the processor's cache."""

import torch
from torch import Tensor

_AT_ONCE = 32   # descriptors: their logits over a fine map fit into a core's cache


class _LogPartition(torch.autograd.Function):
    """Logits are computed again on the way back: that is quicker than to fetch them from memory."""

    @staticmethod
    def forward(ctx, descriptors: Tensor, cells: Tensor) -> Tensor:
        with torch.autocast(descriptors.device.type, enabled=False):
            sums = torch.cat([(part @ cells).logsumexp(-1) for part in descriptors.split(_AT_ONCE)])
        ctx.save_for_backward(descriptors, cells, sums)
        return sums

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, Tensor]:
        descriptors, cells, sums = ctx.saved_tensors
        slopes, of_cells = [], torch.zeros_like(cells)
        for part, log, weight in zip(*(x.split(_AT_ONCE) for x in (descriptors, sums, slope))):
            softmax = (part @ cells).sub_(log[:, None]).exp_().mul_(weight[:, None])
            slopes.append(softmax @ cells.T)
            of_cells.addmm_(part.T, softmax)
        return torch.cat(slopes), of_cells


def log_partition(descriptors: Tensor, cells: Tensor) -> Tensor:
    """ln sum_m exp(<descriptor, cell m>): [N, C] and [C, M] -> [N]."""
    return _LogPartition.apply(descriptors.float(), cells.float())
