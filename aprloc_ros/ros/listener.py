"""A topic that is listened to: when it last said something, and if it is silent, why."""

import difflib
import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, qos_check_compatible

QUIET_S = 3.0   # longer than any camera or odometry is silent that works
_SUFFIX = '/compressed'
_UNKNOWN = '_NODE_NAME_UNKNOWN_'   # as rmw calls a node of which it knows the topics alone, yet or for good
_NAMED = 3      # topics of the same type that are named


class Listener:
    """A subscription."""

    def __init__(self, node: Node, what: str, message_type: type, topic: str, on_message: Callable[[object], None],
                 qos: QoSProfile):
        """what: in words, such as 'image'."""
        self._node, self._what, self._on_message = node, what, on_message
        self._type = f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'
        self._heard_s: float | None = None
        self._subscription = node.create_subscription(message_type, topic, self._hear, qos)
        # Of a closed one, of which the frame in hand may still ask why it is silent, rclpy says neither.
        self._topic, self._qos = self._subscription.topic_name, self._subscription.qos_profile

    @property
    def described(self) -> str:
        """Topic, as it was resolved, type and QoS."""
        reliability = self._qos.reliability.name.lower()
        return f'{self._topic} ({self._type}, {reliability})'

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)

    def silence(self, quiet_s: float = QUIET_S) -> str:
        """Since when nothing has come and why, if that is longer than quiet_s; otherwise empty."""
        since_s = None if self._heard_s is None else time.monotonic() - self._heard_s
        if since_s is not None and since_s < quiet_s:
            return ''
        since = 'yet' if since_s is None else f'for {since_s:.1f} s'
        return f'no {self._what} {since} on {self._topic}: {self._reason()}'

    def mixture(self) -> str:
        """Who publishes it, where that are several: nobody can tell their messages apart. Otherwise empty."""
        found = [publisher for publisher in self._node.get_publishers_info_by_topic(self._topic)
                 if publisher.topic_type == self._type]
        names = ', '.join(sorted(publisher.node_name.replace(_UNKNOWN, 'somebody') for publisher in found))
        return f'{self._topic} has {len(found)} publishers ({names}), whose messages mix' if len(found) > 1 else ''

    def _hear(self, message: object) -> None:
        self._heard_s = time.monotonic()
        self._on_message(message)

    def _reason(self) -> str:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        if not publishers:
            return f'nobody publishes it{self._elsewhere()}'
        types = sorted({publisher.topic_type for publisher in publishers})
        if self._type not in types:
            return f'it is published as {", ".join(types)}, not as {self._type}{self._elsewhere()}'
        publishers = [publisher for publisher in publishers if publisher.topic_type == self._type]
        checks = [qos_check_compatible(publisher.qos_profile, self._qos) for publisher in publishers]
        if all(verdict == QoSCompatibility.ERROR for verdict, _ in checks):
            return (f'its publisher offers another QoS ({checks[0][1].removeprefix("ERROR: ").strip("; ")}); '
                    'set the parameter reliability to best_effort')
        node = publishers[0].node_name.replace(_UNKNOWN, 'somebody')
        if self._heard_s is None and all(publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for publisher in publishers):
            return f'{node} latches it, and may have said it before this node listened: have it published again and again'
        return f'{node} publishes it, but nothing arrives'

    def _elsewhere(self) -> str:
        """Where else such messages are, and how to get them."""
        topic = self._topic
        if self._node.count_publishers(topic + _SUFFIX):
            return f', but there are publishers on {topic + _SUFFIX}: set compressed:=true (image_transport: compressed)'
        base = topic.removesuffix(_SUFFIX)
        if base.endswith(_SUFFIX):
            return f'; {_SUFFIX} is added to the topic image: set image:={base.removesuffix(_SUFFIX)}'
        if base != topic and self._type == 'sensor_msgs/msg/Image':
            return f'; set image:={base} and compressed:=true (image_transport: compressed)'
        if base != topic and self._node.count_publishers(base):
            return f', but there are publishers on {base}: set compressed:=false (image_transport: raw)'
        names = [name for name, types in self._node.get_topic_names_and_types()
                 if self._type in types and name != topic and self._node.count_publishers(name)]
        names.sort(key=lambda name: -difflib.SequenceMatcher(None, name, topic).ratio())
        return f'; {self._type} is on {", ".join(names[:_NAMED])}' if names else ''
