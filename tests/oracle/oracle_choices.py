"""Choices made of bytes, for random cases that shrink well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

flag = (False, True)


class Choices:
    """Choose one of n by the next bytes: all alike likely, the first one when they shrink to 0."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __call__(self, options: Sequence) -> Any:
        word = self.data[self.at : self.at + 2]
        self.at += 2
        return options[int.from_bytes(word, "big") % len(options)]


def between(low: int, high: int) -> range:
    """The whole numbers from low to high."""
    return range(low, high + 1)
