"""How well poses fit what pairs of images show, as they are declared or as they may have been meant."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aprloc_ros.training.checks.evidence import Evidence

FITS = 0.8      # share of matches that agree with what the poses were meant to be
BETTER = 0.4    # its median residual relative to that of the declared poses
SAME = 0.8      # what is less simple must fit so much better
NOISY_RAD = 0.007


@dataclass(frozen=True, eq=False)
class Suspect:
    """Poses as they may have been meant: they fit `text`."""

    text: str
    T_map_cam: np.ndarray     # [N, 4, 4]; NaN for frames of which it says nothing
    is_fitted: bool = False   # to these images, so that small errors of right poses are fitted too
    is_odd: bool = False      # one of so many that some fit by chance, if not closely
    is_told: bool = False     # by the poses themselves, without the images, too: it need not fit far better


@dataclass(frozen=True, eq=False)
class Fit:
    """How well poses fit the evidence."""

    suspect: Suspect
    share: float        # of the matches that agree
    median_rad: float


def fit(evidence: Evidence, suspect: Suspect) -> Fit:
    residuals_rad = evidence.residuals(suspect.T_map_cam)
    residuals_rad = residuals_rad[np.isfinite(residuals_rad)]
    if len(residuals_rad) < len(evidence.pair_of) / 2:
        return Fit(suspect, 0.0, np.inf)
    return Fit(suspect, float((residuals_rad < evidence.agreement_rad).mean()), float(np.median(residuals_rad)))


def best(evidence: Evidence, declared: Fit, suspects: Iterable[Suspect]) -> Fit | None:
    """The suspect that fits far better than the declared poses; what is fitted far better than what is not, too."""
    found, limit_rad, fitted_limit_rad = None, BETTER * declared.median_rad, BETTER * declared.median_rad
    for tried in (fit(evidence, suspect) for suspect in suspects):
        enough_rad = fitted_limit_rad if tried.suspect.is_fitted else limit_rad
        if tried.suspect.is_told and not found:
            enough_rad = SAME * declared.median_rad
        if tried.median_rad < (min(enough_rad, NOISY_RAD) if tried.suspect.is_odd else enough_rad) and tried.share >= FITS:
            found, limit_rad = tried, SAME * tried.median_rad
            fitted_limit_rad = (SAME if tried.suspect.is_fitted else BETTER) * tried.median_rad
    return found
