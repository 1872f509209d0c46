"""A ROS domain that nobody on this machine uses, so that a replay meets neither a robot nor another replay."""

import contextlib
import os
import random
import socket
from collections.abc import Iterator

from aprloc_ros.errors import AprlocError

_DOMAINS = range(1, 102)    # without 0, which is everybody's; 101 is the last that every operating system can have
_FIRST_PORT, _PORTS_PER_DOMAIN = 7400, 250   # of RTPS, by which DDS finds its like
_PARTICIPANTS = 15          # two ports each


def free_domain() -> int:
    """One whose ports nobody on this machine listens on. Raises AprlocError if there is none."""
    for domain in random.SystemRandom().sample(_DOMAINS, len(_DOMAINS)):
        if _is_free(domain):
            return domain
    raise AprlocError(f'all ROS domains from {_DOMAINS[0]} to {_DOMAINS[-1]} are in use on this machine; stop some')


def domain_environment(domain: int) -> dict[str, str]:
    """What keeps a process, and those it starts, in the domain and on this machine."""
    return {'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'ROS_STATIC_PEERS': '', 'ROS_DISCOVERY_SERVER': ''}


@contextlib.contextmanager
def inside(domain: int) -> Iterator[None]:
    """This process, too, until the end of the block; what has joined a domain before stays where it is."""
    before = {name: os.environ.get(name) for name in domain_environment(domain)}
    os.environ.update(domain_environment(domain))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _is_free(domain: int) -> bool:
    first = _FIRST_PORT + _PORTS_PER_DOMAIN * domain
    with contextlib.ExitStack() as stack:
        for port in range(first, first + 2 * _PARTICIPANTS):
            try:
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind(('', port))
            except OSError:
                return False
    return True
