"""Chi-square and binomial distributions, and the exact intervals that follow from them; without SciPy."""

import math
from collections.abc import Callable

import torch

_BISECTIONS = 200


def chi2_cdf(x: float, degrees_of_freedom: int) -> float:
    """P(X <= x) of a chi-square X: the regularised incomplete gamma function of half of each."""
    half = torch.tensor([degrees_of_freedom, max(x, 0.0)], dtype=torch.float64) / 2
    return torch.special.gammainc(half[0], half[1]).item()


def chi2_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The x with P(X <= x) = probability, 0 <= probability < 1."""
    highest = 2.0 * degrees_of_freedom + 10
    while chi2_cdf(highest, degrees_of_freedom) < probability:
        highest *= 2
    return _solve(lambda x: chi2_cdf(x, degrees_of_freedom) - probability, 0.0, highest)


def binomial_cdf(successes: int, trials: int, probability: float) -> float:
    """P(at most that many successes)."""
    if probability <= 0 or successes >= trials:
        return 1.0
    if probability >= 1:
        return 0.0
    k = torch.arange(successes + 1, dtype=torch.float64)
    n = torch.tensor(float(trials), dtype=torch.float64)
    log_choose = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    terms = log_choose + k * math.log(probability) + (n - k) * math.log1p(-probability)
    return min(1.0, terms.exp().sum().item())


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the success probability (Clopper and Pearson 1934): it holds at least as often as promised."""
    tail = (1 - confidence) / 2
    low = _solve(lambda p: 1 - binomial_cdf(successes - 1, trials, p) - tail, 0.0, 1.0) if successes else 0.0
    high = _solve(lambda p: tail - binomial_cdf(successes, trials, p), 0.0, 1.0) if successes < trials else 1.0
    return low, high


def _solve(increasing: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function by bisection."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if increasing(middle) < 0 else (low, middle)
    return (low + high) / 2
