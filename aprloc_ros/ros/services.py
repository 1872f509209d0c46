"""What may be asked of the node, active or not: ~/relocalize and ~/publish_initialpose (std_srvs/Trigger)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger


@dataclass(frozen=True)
class Outcome:
    """What a service says."""

    success: bool
    text: str


class Answerer(Protocol):
    """What answers while the node is active."""

    def relocalize(self) -> Future: ...

    def publish_initialpose(self) -> Outcome: ...


class Services:
    """The services, which exist as long as the node."""

    def __init__(self, node: Node, active: Callable[[], Answerer | None]):
        self._active = active
        self._inactive = Outcome(False, 'the node is not active; activate it first: '
                                        f'ros2 lifecycle set {node.get_fully_qualified_name()} activate')
        # Reentrant: a call waits for its outcome without holding up the callbacks of others.
        group = ReentrantCallbackGroup()
        node.create_service(Trigger, '~/relocalize', self._relocalize, callback_group=group)
        node.create_service(Trigger, '~/publish_initialpose', self._publish_initialpose, callback_group=group)

    async def _relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answerer = self._active()
        return _said(self._inactive if answerer is None else await answerer.relocalize(), response)

    def _publish_initialpose(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answerer = self._active()
        return _said(self._inactive if answerer is None else answerer.publish_initialpose(), response)


def _said(outcome: Outcome, response: Trigger.Response) -> Trigger.Response:
    response.success, response.message = outcome.success, outcome.text
    return response


class PendingCalls:
    """Calls that wait for an outcome. Thread-safe."""

    def __init__(self):
        self._lock = threading.Lock()
        self._calls: list[tuple[float, Future]] = []   # deadline, on time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, timeout_s: float) -> Future:
        """A call that waits so long."""
        call = Future()
        with self._lock:
            self._calls.append((time.monotonic() + timeout_s, call))
        return call

    def settle(self, outcome: Outcome) -> None:
        """Answer all that wait."""
        self._answer(lambda deadline_s: True, outcome)

    def settle_overdue(self, outcome: Callable[[], Outcome]) -> None:
        """Answer those whose time is over."""
        now_s = time.monotonic()
        if any(deadline_s <= now_s for deadline_s, _ in self._calls):
            self._answer(lambda deadline_s: deadline_s <= now_s, outcome())

    def _answer(self, is_due: Callable[[float], bool], outcome: Outcome) -> None:
        with self._lock:
            due = [call for deadline_s, call in self._calls if is_due(deadline_s)]
            self._calls = [(deadline_s, call) for deadline_s, call in self._calls if not is_due(deadline_s)]
        for call in due:
            call.set_result(outcome)
