"""A stack as a notebook sees it: it draws itself, it has frames, and knobs can be set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hasim import stack as files
from hasim.api import draw, frames
from hasim.model import Stack as Model
from hasim.report.diff import changes
from hasim.units import counted

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Stack:
    """What the files of one folder say, and knobs that are set on top of them.

    model: the frozen value behind it (hasim.model.Stack). settings: {knob: value as its file would
    have it}. Nothing here writes to the folder that was loaded.

    >>> stack = ha.load("models/three-servers")
    >>> stack
    <Stack three-servers: 3 files, 4 hosts, 4 containers>
    >>> stack.hosts[["host", "cores"]].head(2)
      host  cores
    0   lb    4.0
    1    a    4.0
    """

    model: Model
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the stack: of stack.yaml, or else of its folder."""
        return self.model.name

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.model.folder)

    # ---- frames ----------------------------------------------------------------------------------
    @property
    def findings(self) -> DataFrame:
        """What reading found: severity, code, message, hint, file, line."""
        return frames.findings(self.model.findings)

    @property
    def knobs(self) -> DataFrame:
        """Every tunable value: knob, value, software, effect, file, line, default.

        >>> knobs = ha.load("models/three-servers").knobs.set_index("knob")
        >>> knobs.loc["haproxy.defaults.timeout_server", ["value", "effect", "file"]].to_list()
        ['50000', 'reload', 'haproxy.cfg']
        """
        return frames.knobs(self.model.knobs)

    @property
    def hosts(self) -> DataFrame:
        """host, cores, memory_bytes, address, containers, file, line."""
        return frames.hosts(self.model)

    @property
    def containers(self) -> DataFrame:
        """container, service, software, host, limit_cores, limit_bytes, restart, file, line."""
        return frames.containers(self.model)

    @property
    def routes(self) -> DataFrame:
        """The ways of requests: who, to, via, balancer, backend, service, file, line."""
        return frames.routes(self.model)

    @property
    def assumptions(self) -> DataFrame:
        """What nobody measured: name, value, source."""
        return frames.assumptions(self.model.assumptions)

    # ---- changes ---------------------------------------------------------------------------------
    def set(self, settings: Mapping[str, object]) -> Stack:
        """A new stack with knobs set; this one stays as it is, and so do the files.

        A name may hold `*`. InputError for a knob that is unknown or a value that cannot be.

        >>> tuned = ha.load("models/three-servers").set({"haproxy.defaults.timeout_server": "5s"})
        >>> tuned.settings
        {'haproxy.defaults.timeout_server': '5s'}
        """
        merged = {**self.settings, **{k: str(v) for k, v in settings.items()}}
        return Stack(files.with_settings(self.folder, merged), merged)

    def diff(self) -> draw.Text:
        """What `set` changed, as a unified diff of the files; secrets are redacted.

        >>> tuned = ha.load("models/three-servers").set({"haproxy.defaults.timeout_server": "5s"})
        >>> print("".join(x for x in tuned.diff().splitlines(True) if x[0] in "+-"), end="")
        --- a/haproxy.cfg
        +++ b/haproxy.cfg
        -    timeout server  50000
        +    timeout server  5000
        """
        before, after = (files.patched(self.folder, s) for s in ({}, self.settings))
        return draw.Text(changes(before, after).text)

    def export(self, folder: str | Path) -> Path:
        """Write the folder with the knobs as set to another folder; returns that.

        They are candidates, proved by nothing yet: run the scenarios on them (`--stack`) and then
        `hasim export`. The folder is written beside its place and renamed. InputError if it is
        there and holds what is no file of this stack.

        >>> tuned = ha.load("models/three-servers").set({"haproxy.defaults.timeout_server": "5s"})
        >>> ha.load(tuned.export("out/tuned")).knobs.set_index("knob").value[
        ...     "haproxy.defaults.timeout_server"]
        '5000'
        """
        from hasim.plan.sweep_files import replace_stack

        folder = Path(folder)
        replace_stack(self.folder, files.patched(self.folder, self.settings), folder)
        return folder

    # ---- drawing ---------------------------------------------------------------------------------
    def __repr__(self) -> str:
        size = draw.size(self.model)
        knobs = f", {counted(len(self.settings), 'knob')} set" if self.settings else ""
        return f"<Stack {self.name}: {size}{knobs}>"

    def _repr_html_(self) -> str:
        return draw.stack(self.model, self.settings.items())


def load(folder: str | Path) -> Stack:
    """The stack of a folder of real files. InputError with every error of every file.

    >>> stack = ha.load("models/three-servers")
    >>> stack.findings.columns.to_list()
    ['severity', 'code', 'message', 'hint', 'file', 'line']
    """
    return Stack(files.load(folder))
