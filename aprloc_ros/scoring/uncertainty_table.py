"""Uncertainty in words: an aligned table, and what the number of frames does not support."""

from aprloc_ros.scoring.uncertainty import FEWEST_FAILURES, LEVELS, Coverage, Uncertainty, frames_needed
from aprloc_ros.table import aligned


def uncertainty_table(measured: dict[str, Uncertainty]) -> str:
    """A row per named Uncertainty, then a line for each thing that was found wrong or cannot be said."""
    header = ['', 'frames', 'ANEES (95 %)', *(f'in {level:.0%} (95 %)' for level in LEVELS), 'NLL', 'AUROC (95 %)',
              'risk-coverage area']
    rows = [header, *([name, *_cells(u)] for name, u in measured.items())]
    return '\n'.join([aligned(rows), *(f'{name}: {note}' for name, u in measured.items() for note in uncertainty_notes(u)),
                      'ANEES should be 6; intervals take the frames as independent, which neighbours of a video are not'])


def uncertainty_notes(measured: Uncertainty) -> list[str]:
    """What is wrong, and which claims the frames are too few for."""
    notes = []
    c, s = measured.covariance, measured.score
    if not c.consistent:
        low, high = c.anees_interval
        kind = 'overconfident' if c.anees > high else 'too cautious'
        notes.append(f'covariances are {kind}: ANEES {c.anees:.2f} is outside {low:.2f} to {high:.2f}')
    notes += [f'{c.count} frames are too few to support a claim on {coverage.nominal:.0%} coverage (at least '
              f'{frames_needed(coverage.nominal)})' for coverage in c.coverage if not coverage.supported]
    if not s.supported:
        notes.append(f'{s.failures} of {s.count} frames failed: too few of one kind to support a claim on the score '
                     f'(at least {FEWEST_FAILURES} failures and {FEWEST_FAILURES} successes)')
    return notes


def _cells(measured: Uncertainty) -> list[str]:
    c, s = measured.covariance, measured.score
    auroc = '-' if s.auroc is None else f'{s.auroc:.2f} ({s.auroc_interval[0]:.2f}-{s.auroc_interval[1]:.2f})'
    return [str(c.count), f'{c.anees:.2f} ({c.anees_interval[0]:.2f}-{c.anees_interval[1]:.2f})',
            *map(_coverage_cell, c.coverage), f'{c.nll:.2f}', auroc, f'{s.aurc:.3f}']


def _coverage_cell(coverage: Coverage) -> str:
    low, high = coverage.interval
    return f'{coverage.share:.0%} ({low:.0%}-{high:.0%}){"" if coverage.supported else "?"}'
