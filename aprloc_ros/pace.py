"""How fast this machine is just now, and what it can therefore be asked to do in time."""

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch

_REMEMBERED = 20     # answers: an effort that was too much is tried again after as many
_CALM = 1.5          # times as long as usual: beyond, other processes have the cores, and threads wait for one another
_CUT_SHORT = 1.25    # an answer that was cut short would have taken longer by so much at least


@dataclass(frozen=True)
class Effort:
    """How a query is answered."""

    refiner: str
    threads: int


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads of this process."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Pace:
    """Chooses among efforts, the best first, by what they usually take and how much slower the machine was lately.

    Two threads share a step and wait for each other; with four busy processes beside them on two cores a query of 45 ms
    took 600, on one thread 215 (and 58 where nothing else runs). So one thread works where the machine is busy.
    """

    def __init__(self, efforts: tuple[Effort, ...], deadline_ms: float):
        self._efforts, self._deadline_ms = efforts, deadline_ms
        self._usual_ms: dict[Effort, float] = {}
        self._slowness: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def usual_ms(self) -> dict[Effort, float]:
        """What was learned, in the order of the efforts."""
        return {effort: self._usual_ms[effort] for effort in self._efforts if effort in self._usual_ms}

    def learn(self, effort: Effort, took_ms: float) -> None:
        """What an effort takes where nothing cuts it short; the least counts."""
        self._usual_ms[effort] = min(took_ms, self._usual_ms.get(effort, math.inf))

    def note(self, effort: Effort, took_ms: float, cut_short: bool) -> None:
        """What it took this time."""
        if effort in self._usual_ms:
            slowness = took_ms * (_CUT_SHORT if cut_short else 1.0) / self._usual_ms[effort]
            self._slowness.append(max(1.0, slowness))

    def choose(self) -> Effort:
        """The first effort that will be done in time; the last one where none will; the first where nothing is known."""
        if not self._usual_ms or math.isinf(self._deadline_ms):
            return self._efforts[0]
        slowness = max(self._slowness, default=1.0)
        for effort in self._efforts:
            too_many = effort.threads > 1 and slowness > _CALM
            if not too_many and slowness * self._usual_ms.get(effort, math.inf) <= self._deadline_ms:
                return effort
        return self._efforts[-1]
