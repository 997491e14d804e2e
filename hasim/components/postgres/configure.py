"""What a container's files say about the server in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hasim.components.base import Configured, Folder, Placed
from hasim.components.postgres.config import PostgresConfig

if TYPE_CHECKING:
    from hasim.read.compose_types import ComposeService

# Images that run one PostgreSQL server by the entrypoint of the official one.
IMAGES = ("postgres", "postgresql", "pgvector", "postgis", "timescaledb", "pgvecto-rs", "pg")
_NOT = re.compile(r"patroni|spilo|exporter|pgbouncer|pgadmin|pgpool|backup|stolon")


def image_name(image: str) -> str:
    """The last part of an image's name, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def recognises(service: ComposeService) -> bool:
    """An image of PostgreSQL whose command does not start something else around it."""
    words = " ".join((*(service.entrypoint or ()), *(service.command or ())))
    if _NOT.search(service.image) or _NOT.search(words):
        return False
    return image_name(service.image) in IMAGES


def configure(one: Placed, folder: Folder) -> Configured:
    """Parameters, origins, what the daemon refuses, and how its directory begins."""
    return Configured(PostgresConfig(), ports=(5432,))
