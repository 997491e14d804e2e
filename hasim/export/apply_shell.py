"""What the makers of scripts share: the shell files, and how a script asks a HAProxy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files

from hasim.export.apply_stack import HostView, places, talks
from hasim.export.base import Deploy


def library(name: str) -> str:
    """A file of hasim/export/shell."""
    return files("hasim.export").joinpath("shell", name).read_text(encoding="utf-8")


def haproxies(deploy: Deploy, found: Sequence[HostView]) -> str:
    """The function `haproxy_says HOST CONTAINER COMMAND` for the HAProxies of a stack."""
    lines = ["", "haproxy_says() {  # haproxy_says HOST CONTAINER COMMAND", "  case $1/$2 in"]
    at = places(found)
    for instance, talk in talks(deploy).items():
        if instance not in at:
            continue
        host, container = (shlex.quote(word) for word in at[instance])
        flag, stdin = ("-i ", ' <<<"$3"') if talk.admin else ("", "")
        ask = f'on {host} exec {flag}"$(id_of {host} {container})" sh -c'
        where = shlex.quote("/".join(at[instance]))
        lines.append(f"    {where}) {ask} {shlex.quote(talk.command)}{stdin} ;;")
    return "\n".join([*lines, "    *) : ;;", "  esac", "}", ""])
