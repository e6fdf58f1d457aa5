"""What disks and networks do to files: bits flipped, blocks zeroed, ends cut off."""

import random

KINDS = ("bit flipped", "block zeroed", "truncated")
BLOCK = 512  # bytes, a disk's sector


def damaged(whole: bytes, kind: str, draws: random.Random) -> bytes:
    """Damage a file's contents at a random place; what comes back differs from the whole."""
    while True:
        data = bytearray(whole)
        place = draws.randrange(len(whole))
        if kind == "bit flipped":
            data[place] ^= 1 << draws.randrange(8)
        elif kind == "block zeroed":
            start = place - place % BLOCK
            data[start : start + BLOCK] = bytes(len(data[start : start + BLOCK]))
        else:
            assert kind == "truncated"
            del data[place:]
        if data != whole:
            return bytes(data)
