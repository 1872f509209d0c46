"""How often answers are wrong, by the threshold on their score: what the gate's user chooses from."""

from torch import Tensor

from aprloc_ros.gate import Risk
from aprloc_ros.training.evenly import evenly

WRONG_M, WRONG_DEG = 0.5, 5.0
_THRESHOLDS = 8


def risks(scores: Tensor, wrong: Tensor, frame: Tensor, accept: float) -> tuple[Risk, ...]:
    """Scores [N] of the answers above `accept`, which of them were wrong, [N] bool, and the numbers [N] of their images.

    Images are counted, for two answers to one are no two witnesses: it is wrong if any is. Thresholds lie between wrong
    answers and the next better ones: any other answers less at no less risk.
    """
    worst = scores[wrong].sort().values
    above = [accept, *(score for score in worst.tolist() if score > accept)]
    chosen = [above[i] for i in evenly(len(above), _THRESHOLDS)]
    return tuple(Risk(threshold, len(frame[scores > threshold].unique()), len(frame[wrong & (scores > threshold)].unique()))
                 for threshold in dict.fromkeys(chosen))
