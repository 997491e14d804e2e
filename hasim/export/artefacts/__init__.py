"""Everything that hasim derives from the user's files to deploy them; scripts are not made here."""

from __future__ import annotations

from hasim.export.artefacts import alerts, discovery, hosts, k6
from hasim.export.base import Artefact, Deploy


def make(deploy: Deploy) -> list[Artefact]:
    """Files under hosts/ and extra/, in path order. Deterministic; writes nothing."""
    made = [*hosts.make(deploy), *discovery.make(deploy), *k6.make(deploy), *alerts.make(deploy)]
    return sorted(made, key=lambda one: one.path)
