"""Bounds of what a site and a server take from each other, for readers that do not load torch."""

import struct

LENGTHS = struct.Struct("<IQ")  # of a frame's header and body (frames.py)
MOST_HEADER = 2**23  # bytes: a recipe of a million letters, each of them escaped
MOST_NAMES = 2**22  # bytes of a body's list of tensors: some 40,000 of them
MOST_BODY = 2**32  # bytes: several times what the projector of an LLM of 70 billion parameters needs with its extras
