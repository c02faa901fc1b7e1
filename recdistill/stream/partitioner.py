"""Which partition a key goes to: the same one that Kafka's own clients choose.

It knows nothing of logs.

Example:
    >>> partition_for(b"impression-1", 4)
    2
"""

from __future__ import annotations

import struct


def murmur2(data: bytes) -> int:
    """MurmurHash2 (32 bits, seed 0x9747b28c) by Austin Appleby, as Kafka's default partitioner computes it.

    Args:
        data: Bytes of a key.

    Returns:
        The hash as an unsigned integer.
    """
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    words, rest = divmod(length, 4)
    value = 0x9747B28C ^ length
    # Mix in 4 bytes at a time, all modulo 2^32; then the 1 to 3 bytes that are left; then mix the result.
    for word in struct.unpack_from(f"<{words}I", data):
        word = word * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if rest:
        value = (value ^ int.from_bytes(data[-rest:], "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return value ^ value >> 15


def partition_for(key: bytes, partitions: int) -> int:
    """Partition of a key, the same one that Kafka's own clients choose.

    Args:
        key: Bytes of the key.
        partitions: Partition count of the topic.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions
