"""How a PNG image is laid out (PNG specification), read without decoding it: its size, and whether it is all there."""

from aprloc_ros.errors import AprlocError

START = b'\x89PNG\r\n\x1a\n'
_ANIMATION = (b'acTL', b'fcTL', b'fdAT')


def read_size(data: bytes) -> tuple[int, int]:
    """Width and height from the IHDR chunk (section 11.2.2)."""
    if len(data) < 24 or data[12:16] != b'IHDR':
        raise AprlocError(f'the PNG image of {len(data)} bytes has no header: it is truncated or damaged')
    return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')


def has_16_bits(start: bytes) -> bool:
    """Whether its samples have 16 bits, by the first 25 bytes of a file (section 11.2.2); False for what is no PNG."""
    return start.startswith(START) and start[24:25] == b'\x10'


def is_whole(data: bytes) -> bool:
    """Whether the chunks lie within the data up to IEND (section 5.3): a decoder may allocate what a chunk claims."""
    at = len(START)
    while at + 12 <= len(data):
        name = data[at + 4:at + 8]
        at += 12 + int.from_bytes(data[at:at + 4], 'big')
        if name == b'IEND':
            return at <= len(data)
        if name in _ANIMATION:
            raise AprlocError('the PNG image is animated; a still image is needed')
    return False
