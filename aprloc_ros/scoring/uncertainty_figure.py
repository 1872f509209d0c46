"""Can the covariances be believed? In a picture."""

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from aprloc_ros.distributions import binomial_interval
from aprloc_ros.scoring.uncertainty import CONFIDENCE, LEVELS, nominal_levels, squared_mahalanobis

_LINE, _REFERENCE, _BAND = '#c62828', '#424242', '#e0e0e0'


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
             xlim=(0, 100), ylim=(0, 101))
