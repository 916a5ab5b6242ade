"""Texts that others wrote, and how they are shown."""

import re

__all__ = ["STEERING", "visible"]

STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: control characters but line ends, and what turns a text around."""


def visible(text: str) -> str:
    """The same text with an escape for each character that a terminal would obey: names of experiments and of files are
    others' words.
    """
    return STEERING.sub(lambda found: ascii(found[0])[1:-1], text)
