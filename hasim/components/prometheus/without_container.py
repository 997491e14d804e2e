"""Rules files in a stack that starts no Prometheus: one is assumed that evaluates them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from hasim.components.base import Configured, Folder, Placed
from hasim.components.prometheus.config import from_file, from_rules
from hasim.model import Instance
from hasim.source import Span

NAME = "prometheus"

# Files that are taken for Prometheus' own, by the end of their path.
MAIN = re.compile(r"(?:.*/)?prometheus\.ya?ml")
RULES = re.compile(r"(?:.*/)?(?:[\w.-]+[._-])?(?:alerts?|rules)\.ya?ml")


def rule_files(names: Iterable[str]) -> tuple[str, ...]:
    """Of the paths of a folder: its prometheus.yml; else its rules files; in sorted order."""
    known = sorted(names)
    main = tuple(n for n in known if MAIN.fullmatch(n))
    return main[:1] or tuple(n for n in known if RULES.fullmatch(n))


def stand_in(names: Iterable[str], host: str) -> Placed | None:
    """A Prometheus on a host for the files of a folder; None if none of them is Prometheus'. Its
    configure() then reads them.
    """
    found = rule_files(names)
    if not found:
        return None
    place = Span(found[0], 1, 1)
    one = Instance(NAME, "prometheus", host, network_mode="host", restart="always", span=place)
    return Placed(one, names=(NAME,), config="\n".join(found))


def assumed(paths: Iterable[str], folder: Folder) -> Configured:
    """What an assumed Prometheus does with what rule_files() chose: with prometheus.yml as it
    says, else every default (1 m between scrapes and between evaluations) and every instance a
    target.
    """
    found = tuple(paths)
    if len(found) == 1 and MAIN.fullmatch(found[0]):
        beside = posixpath.dirname(found[0])

        def behind(path: str) -> str | None:
            return posixpath.normpath(posixpath.join(beside, path.removeprefix("/")))

        return from_file(found[0], folder, behind)
    return from_rules(found, folder)
