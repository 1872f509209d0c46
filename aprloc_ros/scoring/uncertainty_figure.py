"""Uncertainty in pictures: reliability of the covariances and what the score is worth."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from aprloc_ros.distributions import binomial_interval
from aprloc_ros.scoring.uncertainty import CONFIDENCE, LEVELS, nominal_levels, risk_coverage, squared_mahalanobis

_LINE, _REFERENCE, _BAND = '#c62828', '#424242', '#e0e0e0'


def uncertainty_figure(xi: Tensor, covariance: Tensor, score: Tensor, failed: Tensor) -> Figure:
    """Two panels: observed against nominal coverage, and risk against the share of frames that are answered.

    xi [N, 6], covariance [N, 6, 6]; score [M], failed [M] bool.
    """
    figure = Figure(figsize=(11, 5), layout='constrained')
    left, right = figure.subplots(1, 2)
    draw_reliability(left, xi, covariance)
    draw_risk_coverage(right, score, failed)
    return figure


def draw_reliability(axes: Axes, xi: Tensor, covariance: Tensor) -> None:
    """Share of frames inside each confidence ellipsoid, and where it would lie with probability 95 % if calibrated."""
    nominal = np.sort(nominal_levels(squared_mahalanobis(xi, covariance).cpu()).numpy())
    count = len(nominal)
    within = np.array([binomial_interval(k, count, CONFIDENCE) for k in range(count + 1)])
    share = np.arange(count + 1) / count
    axes.fill_betweenx(100 * share, 100 * within[:, 0], 100 * within[:, 1], color=_BAND, lw=0,
                       label='95 % band if calibrated')
    axes.plot([0, 100], [0, 100], color=_REFERENCE, lw=1, ls='--')
    axes.step(100 * np.array([0, *nominal, 1]), 100 * np.array([*share, 1]), where='post', color=_LINE,
              label=f'observed, {count} frames')
    observed = [np.mean(nominal <= level) for level in LEVELS]
    axes.plot(100 * np.array(LEVELS), 100 * np.array(observed), 'o', color=_LINE, ms=5)
    axes.text(97, 4, 'below the line: overconfident\nabove: cautious', ha='right', color='#616161')
    axes.set(xlabel='nominal confidence, chi-square with 6 degrees of freedom [%]', ylabel='frames inside [%]',
             xlim=(0, 100), ylim=(0, 101), title='Reliability of the covariance')
    axes.legend(loc='upper left')


def draw_risk_coverage(axes: Axes, score: Tensor, failed: Tensor) -> None:
    """Share of failures among the frames that are answered, when the worst-scored are refused first."""
    coverage, risk = risk_coverage(score, failed)
    best = risk_coverage(-failed.double(), failed)[1]
    overall = failed.double().mean().item()
    percent = 100 * coverage.cpu().numpy()
    axes.step(percent, 100 * risk.cpu().numpy(), where='post', color=_LINE, label=f'this score, area {risk.mean().item():.3f}')
    axes.plot(percent, 100 * best.cpu().numpy(), color=_REFERENCE, lw=1, label=f'perfect score, area {best.mean().item():.3f}')
    axes.axhline(100 * overall, color=_REFERENCE, lw=1, ls='--', label=f'no score, {overall:.1%} fail')
    axes.set(xlabel='frames answered, best score first [%]', ylabel='failures among them [%]', xlim=(0, 100),
             ylim=(0, 100 * max(1.5 * risk.max().item(), 0.01)), title=f'Risk and coverage, {len(score)} frames')
    axes.legend(loc='upper left')
