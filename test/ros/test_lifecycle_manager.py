"""Nav2's lifecycle manager, by the calls that it makes, in its order (nav2_lifecycle_manager of Jazzy and later).

For each transition: change_state with the number of the transition alone, whose answer it takes as it comes; then get_state,
which must name the new state. It waits without limit for change_state (Jazzy) or `service_timeout` seconds (later), and
two to five seconds for get_state. No bond, since bond_timeout is 0.
"""

import time
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS is not installed')
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy._rclpy_pybind11 import RCLError
from repository import ROOT
from ros_peer import assert_answers

from aprloc_ros.ros.transitions import refuse_impossible_transitions

CONFIG = ROOT / 'config/nav2_localization.yaml'
LEADS_TO = {Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
            Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
            Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
            Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
            Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED}
STARTUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
PAUSE, RESUME = (Transition.TRANSITION_DEACTIVATE,), (Transition.TRANSITION_ACTIVATE,)
RESET = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
SHUTDOWN = *RESET, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN


def changes(peer, transitions):
    """The manager's calls -> whether each led where it should, and the longest that get_state took, in seconds."""
    slowest_s = 0.0
    for transition in transitions:
        request = ChangeState.Request(transition=Transition(id=transition))
        peer.call(ChangeState, 'relocalize/change_state', request)
        asked_s = time.monotonic()
        state = peer.call(GetState, 'relocalize/get_state', GetState.Request()).current_state.id
        slowest_s = max(slowest_s, time.monotonic() - asked_s)
        if state != LEADS_TO[transition]:
            return False, slowest_s
    return True, slowest_s


def test_the_managers_commands_lead_where_they_should(run, peer):
    run(autostart=False)
    slowest_s = 0.0
    for command, answers in ((STARTUP, True), (PAUSE, False), (RESUME, True), (RESET, False), (STARTUP, True), (SHUTDOWN, False)):
        led, seconds = changes(peer, command)
        assert led, command
        slowest_s = max(slowest_s, seconds)
        if answers:
            peer.wait_until_active()
            assert_answers(peer)
    print(f'get_state answered within {slowest_s:.2f} s; the manager waits 2 s or more')


def test_a_map_that_is_not_there_is_a_failure_that_the_manager_sees_and_may_try_again(run, peer):
    run(autostart=False, map='absent')
    assert not changes(peer, STARTUP)[0]
    assert peer.set_parameter('map', 'tiny').successful
    assert changes(peer, STARTUP)[0]


def test_a_node_that_starts_itself_is_a_failure_that_the_manager_sees(run, peer):
    run()
    peer.wait_until_active()
    assert not changes(peer, STARTUP)[0]   # hence autostart: false in the file
    assert_answers(peer)                   # and it goes on


def test_a_transition_that_rclpy_ends_of_is_a_failure():
    """Jazzy's raises out of its executor, and the node was gone."""
    def impossible(request, response):
        raise RCLError('Transition is not registered')
    said, service = [], SimpleNamespace(callback=impossible)
    refuse_impossible_transitions(SimpleNamespace(_service_change_state=service,
                                                  get_logger=lambda: SimpleNamespace(error=said.append)))
    assert not service.callback(ChangeState.Request(transition=Transition(id=1)), ChangeState.Response(success=True)).success
    assert 'no transition 1 from here' in said.pop()


def test_the_file_for_nav2_has_a_manager_for_the_node():
    nodes = {name: block['ros__parameters'] for name, block in yaml.safe_load(CONFIG.read_text()).items()
             if 'ros__parameters' in block}
    assert nodes['relocalize']['autostart'] is False
    managers = [block for block in nodes.values() if 'relocalize' in block.get('node_names', ())]
    manager, = managers
    assert manager['node_names'] == ['relocalize'] and manager['bond_timeout'] == 0.0 and manager['autostart'] is True
    assert manager['service_timeout'] >= 30.0   # PyTorch loads for longer than the five seconds of the default
