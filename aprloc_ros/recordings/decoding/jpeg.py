"""How a JPEG image is laid out (ITU-T T.81), read without decoding it: its size, and whether it is all there."""

import re
from typing import NamedTuple

from aprloc_ros.errors import AprlocError

START, END = b'\xff\xd8', b'\xff\xd9'
# Markers that start a frame and hold its size (table B.1), and those that stand without a length.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
_SCAN, _END = 0xDA, 0xD9
# In the data of a scan: a marker that ends it. FF00 is data, FFD0 to FFD7 restart the decoder (section B.1.1.5).
_AFTER_SCAN = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')
_RESTART = re.compile(rb'\xff([\xd0-\xd7])')


class Layout(NamedTuple):
    """end: where the end marker lies, None where it or a part before it is missing."""

    width: int
    height: int
    is_progressive: bool   # coded in several scans, each of the whole image
    end: int | None


def read_layout(data: bytes) -> Layout:
    """Of the first image in the data: what follows its end marker (padding, a phone's second image) does not matter.

    Raises AprlocError for data without a frame header.
    """
    size, at = None, len(START)
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _END:
            return Layout(*_found(size, data), at)
        if marker == 0xFF:   # fill byte
            at += 1
            continue
        if marker in _FRAMES and at + 9 <= len(data):
            size = (int.from_bytes(data[at + 7:at + 9], 'big'), int.from_bytes(data[at + 5:at + 7], 'big'),
                    marker in _PROGRESSIVE)
        at += 2 if marker in _BARE else 2 + int.from_bytes(data[at + 2:at + 4], 'big')
        if marker == _SCAN:
            start, after = at, _AFTER_SCAN.search(data, at)
            if after is None or not _restarts_in_order(data[start:after.start()]):
                break
            at = after.start()
    return Layout(*_found(size, data), None)


def _restarts_in_order(scan: bytes) -> bool:
    """Restart markers are counted modulo 8: one that is missing was lost with its data."""
    return all(marker[0] == 0xD0 + index % 8 for index, marker in enumerate(_RESTART.findall(scan)))


def _found(size: tuple[int, int, bool] | None, data: bytes) -> tuple[int, int, bool]:
    if size is None:
        raise AprlocError(f'the JPEG image of {len(data)} bytes has no frame header: it is truncated or damaged')
    return size


def with_longer_scan(data: bytes, end: int) -> bytes:
    """The image with more data in its last scan: decoders skip it where the scan is whole, and use it where it is short."""
    return data[:end] + 32 * b'\x55\xaa' + END
