"""Everything that hasim derives from the user's files to deploy them; scripts are not made here."""

from __future__ import annotations

from hasim.export.artefacts import alerts, discovery, hosts, instances, k6
from hasim.export.base import Artefact, Deploy


def make(deploy: Deploy) -> list[Artefact]:
    """Files under hosts/ and extra/, in path order. Deterministic; writes nothing."""
    kinds = (hosts, instances, discovery, k6, alerts)
    made = {one.path: one for kind in reversed(kinds) for one in kind.make(deploy)}
    return sorted(made.values(), key=lambda one: one.path)
