"""A bag-like stream at 30 Hz over DDS: damaged images, duplicated and reordered stamps, a camera that goes black."""

import time
from dataclasses import dataclass

import pytest
from tiny_map import CAMERA

pytest.importorskip('rclpy', reason='ROS is not installed')
from ros_peer import LINE, LINE_M, camera_info_message, image_message, line_pixels, next_stamp, running_nodes

RATE_HZ = 30.0
PERIOD_NS = round(1e9 / RATE_HZ)
TRAVEL_M = (0.6, 4.2)
AHEAD = 20   # images, of the thirty that the node keeps waiting


@dataclass
class Sent:
    """One image of the stream."""

    stamp: int
    x_m: float
    kind: str   # 'good', 'corrupt', 'black', 'duplicate' or 'late'


def make_stream(duration_s, blind_s):
    """blind_s: from and to; the camera is silent in the first half of it, black in the second."""
    count, start = round(duration_s * RATE_HZ), next_stamp()
    stream = []
    for index in range(count):
        share = index / count
        image = Sent(start + index * PERIOD_NS, TRAVEL_M[0] + share * (TRAVEL_M[1] - TRAVEL_M[0]), 'good')
        seconds = index / RATE_HZ
        if blind_s[0] <= seconds < sum(blind_s) / 2:
            continue
        if sum(blind_s) / 2 <= seconds < blind_s[1]:
            image.kind = 'black'
        elif index % 50 == 20:   # 2 %
            image.kind = 'corrupt'
        stream.append(image)
        if index % 40 == 10:
            stream.append(Sent(image.stamp, image.x_m, 'duplicate'))
        if index % 40 == 30 and image.kind == stream[-2].kind == 'good':
            stream[-2:] = [stream[-1], Sent(stream[-2].stamp, stream[-2].x_m, 'late')]
    return stream


def play(peer, stream):
    """At 30 Hz, by the clock, and not so far ahead of a node without time that its queue overflows."""
    start_s = time.monotonic()
    for index, image in enumerate(stream):
        peer.wait_for(lambda: index - int(peer.values().get('frames received', 0)) < AHEAD, 'the images before')   # noqa: B023
        message = image_message(line_pixels(image.x_m) * (image.kind != 'black'), image.stamp)
        if image.kind == 'corrupt':
            del message.data[-100:]
        due_s = start_s + (image.stamp - stream[0].stamp) / 1e9
        peer.spin_for(max(0.0, due_s - time.monotonic()))
        peer.publish('image', message)
    peer.wait_for(lambda: int(peer.values()['frames received']) == len(stream) and accounted(peer) == len(stream)
                  and int(peer.values()['frames answered']) == len(peer.heard), 'every image accounted for')


def accounted(peer):
    values = peer.values()
    return sum(int(values[f'frames {key}']) for key in ('answered', 'superseded', 'rejected'))


def check(peer, stream, blind_s):
    """What must hold of any such stream."""
    by_kind = {kind: [image for image in stream if image.kind == kind] for kind in ('good', 'corrupt', 'black', 'duplicate', 'late')}
    values = {key: int(value) for key, value in peer.values().items() if key.startswith(('frames ', 'rejected: '))}
    assert values['frames received'] == len(stream)
    # None but good images are published, each once, each where it was taken.
    truth = {image.stamp: image.x_m for image in by_kind['good']}
    assert set(peer.heard) <= set(truth) and len(peer.heard) == len(set(peer.heard)) == values['frames answered']
    for stamp, message in peer.poses.items():
        assert message.pose.position.x == pytest.approx(truth[stamp], abs=LINE_M)
    # All good ones are answered, superseded by a newer one, or wait for their confirmation.
    unconfirmed = values['rejected: unconfirmed']
    assert len(truth) <= values['frames answered'] + values['frames superseded'] + unconfirmed
    assert values['rejected: stamp'] == len(by_kind['duplicate']) + len(by_kind['late'])
    assert values['rejected: image'] <= len(by_kind['corrupt']) + len(by_kind['black'])
    assert set(values) <= {'frames received', 'frames answered', 'frames superseded', 'frames rejected', 'rejected: image',
                           'rejected: stamp', 'rejected: unconfirmed'}
    # It was lost when the camera was blind, and back after the picture as soon as a second answer confirmed the first.
    statuses = peer.statuses[:-1] if peer.statuses[-1] == 'lost' else peer.statuses   # the stream may have ended a while ago
    assert statuses[-3:] == ['localized', 'lost', 'localized']
    assert unconfirmed <= peer.statuses.count('localized') + 2
    seen_again = min(stamp for stamp in truth if stamp > stream[0].stamp + blind_s[1] * 1e9 - PERIOD_NS)
    found_again = min(stamp for stamp in peer.heard if stamp >= seen_again)
    return values, (found_again - seen_again) / 1e9


def run_stream(tmp_path, peer, tiny_map, duration_s, blind_s):
    stream = make_stream(duration_s, blind_s)
    with running_nodes(tmp_path, peer, tiny_map) as start:
        start(LINE, confirmations=2, lost_after_s=1.0, odometry='none', publish_tf='none')
        peer.wait_until_active()
        peer.publish('camera_info', camera_info_message(CAMERA))
        play(peer, stream)
        values, back_s = check(peer, stream, blind_s)
        print(f'\n{duration_s:g} s at 30 Hz: {values}; back {back_s:.3f} s after the picture; '
              f'oldest answer {peer.values()["age max ms"]} ms')


def test_five_seconds(tmp_path, peer, tiny_map):
    run_stream(tmp_path, peer, tiny_map, 6.0, (2.0, 4.6))


@pytest.mark.slow
def test_twenty_seconds(tmp_path, peer, tiny_map):
    run_stream(tmp_path, peer, tiny_map, 20.0, (9.0, 11.0))
