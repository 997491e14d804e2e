"""What a compose project says, merged and interpolated. Frozen; seconds, bytes and cores.

`where` maps a field name (as in the file, dotted: "deploy.resources.limits.cpus",
"environment.PGDATA", "healthcheck.interval") to the Span of its value in the file where it was
really written, also through `extends`, merge keys and several files. A field not in `where` is
not written anywhere; its Docker default is then in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hasim.source import Span


@dataclass(frozen=True, slots=True)
class Insert:
    """Where a new field of a map can be written: at span.start, before + "field: value"."""

    span: Span
    before: str


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One published port (ranges are one entry per port). host_port 0: the engine chooses one."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """A service on a network (key of the top-level `networks`)."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume of a service. kind: volume | bind | tmpfs | anonymous | other."""

    kind: str
    source: str
    target: str
    read_only: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """One `depends_on`; condition is service_started unless the map form says otherwise."""

    service: str
    condition: str = "service_started"
    restart: bool = False
    required: bool = True
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class ComposeHealthcheck:
    """A healthcheck as written. test: ("CMD", ...), ("CMD-SHELL", text), ("NONE",) or () when
    only the times are written (the image's test is kept). None: not written, Docker's default.
    """

    test: tuple[str, ...] = ()
    interval_s: float | None = None
    timeout_s: float | None = None
    retries: int | None = None
    start_period_s: float | None = None
    start_interval_s: float | None = None
    disable: bool = False
    span: Span | None = None
    insert: Insert | None = None


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One service after extends, merging and interpolation.

    command and entrypoint are words; None when the image's own is in force; *_is_string: the file
    gives a string, which compose splits into words without starting a shell.
    cpus 0, mem_limit_bytes 0, cpu_shares 0 and stop_grace_s None mean: not written. cpus and
    mem_limit_bytes come from `cpus`/`mem_limit` or deploy.resources.limits, whichever is written.
    A service that names no network is on "default". volumes: a relative bind source is resolved
    like the file names. span is the service's name, file the (last) file that writes it. written
    has the text of every scalar in `where`. extends: (file, service) of the bases, nearest first.
    """

    name: str
    span: Span
    file: str
    image: str = ""
    container_name: str = ""
    hostname: str = ""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    command_is_string: bool = False
    entrypoint_is_string: bool = False
    environment: Mapping[str, str | None] = field(default_factory=dict)
    env_file: tuple[str, ...] = ()
    healthcheck: ComposeHealthcheck | None = None
    restart: str = "no"
    stop_signal: str = ""
    stop_grace_s: float | None = None
    init: bool = False
    cpus: float = 0.0
    cpu_shares: int = 0
    cpus_reserved: float = 0.0
    mem_limit_bytes: int = 0
    mem_reservation_bytes: int = 0
    replicas: int = 1  # deploy.replicas or scale
    ports: tuple[PortMapping, ...] = ()
    expose: tuple[int, ...] = ()
    networks: tuple[NetworkUse, ...] = ()
    network_mode: str = ""
    volumes: tuple[Mount, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    links: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    pid: str = ""
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    extends: tuple[tuple[str, str], ...] = ()
    own: tuple[Span, ...] = ()  # its values in the project's own files, see knobs()
    insert: Insert | None = None
    where: Mapping[str, Span] = field(default_factory=dict, repr=False)
    written: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """What PID 1 is started with, as far as the files say it."""
        return (*(self.entrypoint or ()), *(self.command or ()))


@dataclass(frozen=True, slots=True)
class Resource:
    """A top-level network or volume. real_name: what the engine calls it."""

    name: str
    real_name: str
    external: bool = False
    driver: str = ""
    subnets: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """All files of one project, as `docker compose config` would resolve them.

    files: every file read, extended ones included. tags: ("!reset"|"!override", Span) as used
    (compose 1.29.2 refuses them). misplaced: services at the top level, which make compose refuse
    the whole file; they are not in `services`.
    """

    name: str
    files: tuple[str, ...]
    services: Mapping[str, ComposeService]
    networks: Mapping[str, Resource]
    volumes: Mapping[str, Resource]
    tags: tuple[tuple[str, Span], ...] = ()
    misplaced: tuple[tuple[str, Span], ...] = ()
    where: Mapping[str, Span] = field(default_factory=dict, repr=False)
