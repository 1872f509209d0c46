"""The training losses against loops and numbers written out by hand."""

import math

import numpy as np
import pytest
import torch

from aprloc_ros.fields.rendering import Rendering, Weights
from aprloc_ros.training.stages.field import colour_loss, depth_loss, proposal_loss
from aprloc_ros.training.stages.losses import TRIPLET_MARGIN, feature_distance, pose_loss, triplet_loss


def maps(seed: int, batch: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 2, 5, generator=generator, dtype=torch.float64)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 - cosine of the channels, mean over the places. [C, H, W] twice."""
    total = 0.0
    for y in range(a.shape[1]):
        for x in range(a.shape[2]):
            p, q = a[:, y, x], b[:, y, x]
            total += 1 - p @ q / (np.linalg.norm(p) * np.linalg.norm(q))
    return total / (a.shape[1] * a.shape[2])


def loop_triplet(real: np.ndarray, synthetic: np.ndarray) -> float:
    """DFNet Eq. 3-4, written out."""
    total = 0.0
    for i in range(len(real)):
        other = (i + 1) % len(real)
        negatives = [distance(a[i], b[other]) for a in (real, synthetic) for b in (real, synthetic)]
        total += max(0.0, distance(real[i], synthetic[i]) - min(negatives) + TRIPLET_MARGIN)
    return total / len(real)


def test_pose_loss_is_the_mean_norm():
    truth = torch.zeros(2, 3, 4)
    predicted = truth.clone()
    predicted[0, 0, 3], predicted[0, 2, 3] = 3.0, 4.0      # norm 5
    predicted[1] = 0.5                                     # norm 0.5 * sqrt(12)
    assert pose_loss(predicted, truth).item() == pytest.approx((5 + 0.5 * math.sqrt(12)) / 2)
    assert pose_loss(truth, truth).item() == 0


def test_feature_distance_runs_from_zero_to_two():
    a = maps(0)
    torch.testing.assert_close(feature_distance(a, 3 * a), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(feature_distance(a, -a), torch.full((4,), 2.0, dtype=torch.float64))


@pytest.mark.parametrize('seed', range(5))
def test_triplet_loss_against_the_equations(seed):
    real, synthetic = maps(seed), maps(seed + 100) + 0.3 * maps(seed)
    assert triplet_loss(real, synthetic).item() == pytest.approx(loop_triplet(real.numpy(), synthetic.numpy()))


def test_triplet_loss_is_zero_for_perfect_features_and_for_a_batch_of_one():
    real = maps(3, 2)
    real[1] = -real[0]     # cosine distance 2 to the other pose, more than the margin
    assert triplet_loss(real, 2 * real).item() == 0
    assert triplet_loss(maps(0, 1), maps(1, 1)).item() == 0


def test_triplet_gradient_flows_through_the_hardest_negative_alone():
    """The finite difference of the loss with the choice of negatives held fixed."""
    real, synthetic = maps(7, 3).requires_grad_(), maps(8, 3).requires_grad_()
    with torch.no_grad():
        sides = {'r': real, 's': synthetic}
        hardest = [min((feature_distance(sides[a][i:i + 1], sides[b][(i + 1) % 3:(i + 1) % 3 + 1]).item(), a, b)
                       for a in 'rs' for b in 'rs')[1:] for i in range(3)]
    triplet_loss(real, synthetic).backward()
    chosen_real, chosen_synthetic = (t.detach().clone().requires_grad_() for t in (real, synthetic))
    sides = {'r': chosen_real, 's': chosen_synthetic}
    loss = sum((feature_distance(chosen_real[i:i + 1], chosen_synthetic[i:i + 1])
                - feature_distance(sides[a][i:i + 1], sides[b][(i + 1) % 3:(i + 1) % 3 + 1]) + TRIPLET_MARGIN
                ).clamp_min(0).sum() for i, (a, b) in enumerate(hardest)) / 3
    loss.backward()
    torch.testing.assert_close(real.grad, chosen_real.grad)
    torch.testing.assert_close(synthetic.grad, chosen_synthetic.grad)


def test_depth_loss_by_hand():
    weights = Weights(edges=torch.tensor([[0.0, 2.0, 4.0, 16.0]]), weights=torch.tensor([[0.25, 0.5, 0.125]]))
    # Middles 1, 3, 10 around a depth of 2: relative distances 0.5, 0.5 and 4, the last counts as 1.
    assert depth_loss(weights, torch.tensor([2.0])).item() == pytest.approx(0.25 * 0.5 + 0.5 * 0.5 + 0.125)


def loop_proposal(coarse: Weights, static: Weights) -> float:
    """mip-NeRF 360 Eq. 13 with a bound of all coarse intervals that touch the fine one."""
    total = 0.0
    for t, w, t_hat, w_hat in zip(static.edges, static.weights, coarse.edges, coarse.weights):
        for i in range(len(w)):
            touching = sum(w_hat[j].item() for j in range(len(w_hat))
                           if t_hat[j + 1] > t[i] and t_hat[j] <= t[i + 1])
            total += max(0.0, w[i].item() - touching) ** 2 / (w[i].item() + 1e-5)
    return total / len(static.weights)


def random_weights(seed: int, count: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    inner = torch.rand(6, count - 1, generator=generator, dtype=torch.float64).sort(-1).values
    ends = torch.zeros(6, 1, dtype=torch.float64), torch.ones(6, 1, dtype=torch.float64)
    weights = torch.rand(6, count, generator=generator, dtype=torch.float64)
    return Weights(torch.cat([ends[0], inner, ends[1]], -1), weights / weights.sum(-1, keepdim=True))


@pytest.mark.parametrize('coarse_count, fine_count', [(4, 9), (9, 4), (6, 6)])
def test_proposal_loss_against_a_loop(coarse_count, fine_count):
    coarse, static = random_weights(coarse_count, coarse_count), random_weights(50 + fine_count, fine_count)
    assert proposal_loss(coarse, static).item() == pytest.approx(loop_proposal(coarse, static))
    assert loop_proposal(coarse, static) > 0


def test_proposal_loss_is_zero_where_the_proposal_covers():
    static = random_weights(1, 8)
    assert proposal_loss(static, static).item() < 1e-20
    whole = Weights(torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(6, 2), torch.ones(6, 1).double())
    assert proposal_loss(whole, static).item() == 0


def test_proposal_loss_teaches_the_proposal_alone():
    coarse, static = random_weights(4, 5), random_weights(5, 7)
    coarse.weights.requires_grad_()
    static.weights.requires_grad_()
    proposal_loss(coarse, static).backward()
    assert coarse.weights.grad.abs().max() > 0
    assert static.weights.grad is None


def rendering(**values) -> Rendering:
    empty = Weights(torch.zeros(2, 2), torch.zeros(2, 1))
    return Rendering(rgb=torch.tensor([[0.5, 0.5, 0.5], [0.0, 1.0, 0.0]]), depth=torch.ones(2), opacity=torch.ones(2),
                     static=empty, **values)


TRUTH = torch.tensor([[0.5, 0.7, 0.5], [0.0, 0.5, 0.5]])   # squared errors 0.04 and 0.5


def test_colour_loss_without_transients_by_hand():
    assert colour_loss(rendering(), TRUTH).item() == pytest.approx((0.04 + 0.5) / 2)
    coarse = rendering(coarse_rgb=TRUTH + torch.tensor([0.1, 0.0, 0.0]))
    assert colour_loss(coarse, TRUTH).item() == pytest.approx((0.04 + 0.5) / 2 + 0.5 * 0.01)


def test_colour_loss_with_transients_by_hand():
    beta = torch.tensor([0.1, 0.5])
    density = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    expected = (0.04 / (2 * 0.01) + math.log(0.1) + 0.5 / (2 * 0.25) + math.log(0.5)) / 2 + 0.01 * 1.0
    found = colour_loss(rendering(beta=beta, transient_density=density), TRUTH).item()
    assert found == pytest.approx(expected, abs=1e-6)
