"""The files and words of one container, as Settings in the order in which the server takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hasim.components.base import Folder, Placed
from hasim.components.postgres import script
from hasim.components.postgres.script import Script, Statement
from hasim.errors import Finding
from hasim.model import BootFailure
from hasim.read import pg_conf, pg_hba, pg_sql
from hasim.read.compose_service import inside
from hasim.read.pg_conf import Setting
from hasim.read.pg_hba import HbaRule
from hasim.source import Span, Text

PGDATA = "/var/lib/postgresql/data"
INIT = "/docker-entrypoint-initdb.d"
_FLAGS = {"-p": "port", "-N": "max_connections", "-D": "data_directory"}


@dataclass
class Reading:
    """Everything that was found on the way. failures: what the server itself refuses."""

    one: Placed
    folder: Folder
    settings: dict[str, Setting] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    failures: list[BootFailure] = field(default_factory=list)
    hba: list[HbaRule] | None = None
    slots: dict[str, Span] = field(default_factory=dict)
    script: Script | None = None
    conf_file: str = ""
    conf_text: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """entrypoint and command of the container."""
        service = self.one.service
        return (*(service.entrypoint or ()), *(service.command or ())) if service else ()

    @property
    def data(self) -> str:
        """PGDATA."""
        return (self.one.environment.get("PGDATA") or PGDATA).rstrip("/")

    def place(self, key: str = "command") -> Span | None:
        """Where the compose file says it, else where it names the service."""
        service = self.one.service
        return (service.where.get(key) if service else None) or self.one.instance.span

    def refuse(self, reason: str, span: Span | None, audit: str = "", hint: str = "") -> None:
        """The container does not come up, and a finding says so too."""
        self.failures.append(BootFailure(self.one.name, reason, span, audit))
        label = f" ({audit})" if audit else ""
        self.warn("HA192", f"{self.one.name} does not start: {reason}{label}", span, hint)

    def warn(self, code: str, text: str, span: Span | None, hint: str = "") -> None:
        """Take down one problem that does not stop the server."""
        self.findings.append(Finding("warning", code, text, span, hint))

    def take(self, settings: Iterable[Setting]) -> None:
        """Later ones replace earlier ones."""
        self.settings |= {s.name: s for s in settings}

    def file(self, path: str, *, named: bool = False) -> tuple[str, str] | None:
        """(file of the folder, text) behind a path, if it is mounted itself or asked for."""
        found = self.folder.mounted(self.one, path)
        if found is None or not (found[1] or named):
            return None
        text = self.folder.text(found[0])
        return None if text is None else (found[0], text)

    # ---- the layers, lowest first ------------------------------------------------------------
    def read(self) -> None:
        """postgresql.conf, ALTER SYSTEM and postgresql.auto.conf, flags, pg_hba.conf."""
        words, shell = self._shell()
        flags = self._flags(words)
        conf = flags["config_file"].value if "config_file" in flags else ""
        found = self.file(conf or f"{self.data}/postgresql.conf", named=bool(conf))
        if found is not None:
            self.conf_file, self.conf_text = found
            self._conf(*found)
        if found := self.file(f"{self.data}/postgresql.auto.conf"):
            self._conf(*found)
        self._init_scripts()
        if shell is not None:
            self.script = shell
            self._script_files(shell)
        self.take(s for s in flags.values() if s.name != "config_file")
        named = self.settings.get("hba_file")
        path = named.value if named is not None else f"{self.data}/pg_hba.conf"
        if found := self.file(path, named=named is not None):
            rules, wrong = pg_hba.read(found[1], found[0])
            self.hba = rules + (self.hba or [])
            self._refused(wrong)

    def _refused(self, wrong: Iterable[Finding]) -> None:
        """Lines that stop the server."""
        for finding in wrong:
            self.findings.append(replace(finding, severity="warning"))
            reason = f"{finding.message} ({finding.span})" if finding.span else finding.message
            self.failures.append(BootFailure(self.one.name, reason, finding.span))

    def _conf(self, file: str, text: str) -> None:
        settings, wrong = pg_conf.read(text, file, self._include(file))
        self.take(settings)
        self._refused(f for f in wrong if f.severity == "error")
        self.findings += [f for f in wrong if f.severity != "error"]

    def _include(self, file: str):
        folder = file.rpartition("/")[0]

        def include(path: str, optional: bool) -> str | None:
            found = self.folder.mounted(self.one, path) if path.startswith("/") else None
            near = f"{folder}/{path}".lstrip("/") if not path.startswith("/") else ""
            name = found[0] if found else near
            return self.folder.text(name, optional) if name else None

        return include

    # ---- the command -------------------------------------------------------------------------
    def _shell(self) -> tuple[tuple[str, ...], Script | None]:
        """(the server's own words, the script around it if there is one)."""
        words, env = self.words, dict(self.one.environment)
        env.setdefault("PGDATA", self.data)
        text, place, source = script.shell_text(words), self.place(), ""
        if text is not None:
            if place is not None:
                source = self.folder.text(place.file) or ""
        elif path := script.script_file(words):
            found = self.file(path, named=True)
            if found is None:
                return words, None
            place, text, source = Span(found[0], 1, 1, 0), found[1], found[1]
        else:
            return words, None
        shell = script.read(text, env, place, source)
        if shell.broken:
            self.warn("HA192", f"its start script cannot be read: {shell.broken}", place)
        server = shell.first("postgres", "docker-entrypoint.sh", "pg_ctl")
        return (server[1].words if server else ()), shell

    def _flags(self, words: tuple[str, ...]) -> dict[str, Setting]:
        """-c name=value, --name=value, -p, -N, -D."""
        out: dict[str, Setting] = {}
        for word, after in zip(words, [*words, ""][1:], strict=True):
            pair = ""
            if word == "-c":
                pair = after
            elif word in _FLAGS:
                pair = f"{_FLAGS[word]}={after}"
            elif match := re.fullmatch(r"--([A-Za-z_-]+=.*)", word):
                pair = match[1]
            name, eq, value = pair.partition("=")
            if eq:
                name = name.strip().lower().replace("-", "_")
                span = self._flag_span(pair, value)
                out[name] = Setting(name, value.strip(), span)
        return out

    def _flag_span(self, pair: str, value: str) -> Span:
        """The value inside of the compose file, if it stands there as it is."""
        place = self.place() or Span("", 1, 1)
        text = self.folder.text(place.file) if place.file else None
        at = text.find(pair, max(place.start, 0)) if text else -1
        own = self.one.service.own if self.one.service else ()
        shared = not any(inside(place, span) for span in own)  # inherited: others have it too
        if text is None or at < 0 or shared or (place.end > place.start and at >= place.end):
            return Span(place.file, place.line, place.col)
        end = at + len(pair)
        return Text(place.file, text).span(end - len(value), end)

    # ---- scripts -----------------------------------------------------------------------------
    def _init_scripts(self) -> None:
        """docker-entrypoint-initdb.d, in the order of names; only an empty directory runs them."""
        service = self.one.service
        mounts = sorted(service.volumes if service else (), key=lambda m: m.target)
        for mount in mounts:
            if mount.kind != "bind" or not mount.target.startswith(INIT):
                continue
            if mount.target.rstrip("/") == INIT:
                text = f"the folder at {INIT} is not read: mount its files one by one"
                self.warn("HA190", text, mount.span)
            elif found := self.file(mount.target):
                if mount.target.endswith(".sql"):
                    self._sql(*found)
                elif mount.target.endswith(".sh"):
                    env = {"PGDATA": self.data, **self.one.environment}
                    place = Span(found[0], 1, 1, 0)
                    self._script_files(script.read(found[1], env, place, found[1]), found[1])

    def _sql(self, file: str, text: str) -> None:
        facts, found = pg_sql.read_sql(text, file)
        self.take(facts.settings)
        self.slots |= dict(facts.slots)
        self.findings += found

    def _script_files(self, shell: Script, text: str = "") -> None:
        """What a script appends to the server's files."""
        for one in shell.statements:
            if one.name in ("echo", "printf") and one.writes:
                self._appended(one, " ".join(w for w in one.words[1:] if w != "-e") + "\n")
            elif one.name == "psql":
                self._psql(one)
        if "pg_hba.conf" in text:
            lines = re.findall(r"^\s*((?:host\w*|local)\s+\S+\s+\S+\s+.*)$", text, re.M)
            self._rules("\n".join(lines), shell.statements[0].span if shell.statements else None)

    def _appended(self, one: Statement, text: str) -> None:
        if one.writes.endswith("pg_hba.conf"):
            self._rules(text, one.span)
        elif one.writes.endswith((".conf", ".auto.conf")):
            settings, wrong = pg_conf.read(text.replace("\\n", "\n"), "")
            span = one.span or Span("", 1, 1)
            self.take(replace(s, span=span) for s in settings)
            for finding in wrong:
                if finding.severity == "error":
                    hint = "the shell takes the inner quotes away; let pg_basebackup -R write it"
                    self.refuse(finding.message, span, "PG-6", hint)

    def _rules(self, text: str, span: Span | None) -> None:
        rules, wrong = pg_hba.read(text, "")
        if rules:
            self.hba = [*(self.hba or []), *(replace(r, span=span) for r in rules)]
        self._refused(replace(f, span=span) for f in wrong)

    def _psql(self, one: Statement) -> None:
        text = one.option("-c", "--command")
        if text:
            facts, _ = pg_sql.read_sql(text, "")
            span = one.span or Span("", 1, 1)
            self.take(replace(s, span=span) for s in facts.settings)
            self.slots |= {name: span for name, _ in facts.slots}


def environment_of(one: Placed) -> Mapping[str, str]:
    """The container's variables that have a value."""
    return {k: v for k, v in one.environment.items() if v is not None}
