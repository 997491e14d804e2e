"""An export laid out in a scratch folder, and its scripts run against a docker that is a stub."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploys import SCENARIOS, texts_of, written

from hasim.export import apply
from hasim.export.apply_steps import _file
from hasim.export.base import Artefact, Deploy
from hasim.project import open_project, scenario_file
from hasim.stack import load, patched

STUB = Path(__file__).with_name("stub_docker.sh")


def changed(name: str, settings: Mapping[str, str], folder: Path) -> Deploy:
    """The Deploy of a model with settings; the changed stack is written into `folder`."""
    project = open_project(SCENARIOS[name])
    old = project.stack
    assert old is not None
    before = texts_of(project.folder)
    texts = before | patched(project.folder, settings) if settings else dict(before)
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    new = load(folder)
    values = {(k.name, _file(k)): k.value for k in new.knobs}
    moved = tuple(k for k in old.knobs if values.get((k.name, _file(k)), k.value) != k.value)
    return Deploy(texts, before, new, old, moved, {"scenarios": []}, scenario_file(project))


def made(deploy: Deploy) -> list[Artefact]:
    """Everything that the scripts' makers make."""
    return apply.make(deploy)


@dataclass
class Lab:
    """target: the deployed folder; export: the exported one; stub: what the stub knows."""

    target: Path
    export: Path
    stub: Path
    path: str

    @classmethod
    def of(cls, deploy: Deploy, place: Path) -> Lab:
        """A laboratory in an empty folder, everything healthy."""
        for name in ("target", "export", "stub", "bin"):
            (place / name).mkdir()
        (place / "stub/next").mkdir()
        for path, text in deploy.before.items():
            (place / "target" / path).parent.mkdir(parents=True, exist_ok=True)
            (place / "target" / path).write_text(text, encoding="utf-8")
        written(place / "export", deploy, made(deploy))
        for tool in ("docker", "docker-compose", "sleep"):
            (place / "bin" / tool).symlink_to(STUB)
        path = f"{place / 'bin'}:{os.environ['PATH']}"
        lab = cls(place / "target", place / "export", place / "stub", path)
        rows = [
            f"{b.name},{s.name},0,UP" for b in deploy.stack.balancers[0].backends for s in b.servers
        ]
        lab.know(stat="\n".join(rows), pids="11", dcs="ttl: 30\nloop_wait: 10")
        lab.know(members="\n".join(f"c\tpg-{n}\th\t{r}\t1\t0" for n, r in (
            (1, "Leader\trunning"), (2, "Replica\tstreaming"), (3, "Replica\tstreaming"),
        )))  # fmt: skip
        lab.know(**{"sentinel.down-after-milliseconds": "5000"})
        lab.know(**{"redis.repl-diskless-sync-delay": "old"})
        return lab

    def know(self, **files: str) -> None:
        """Facts of the stub."""
        for name, text in files.items():
            (self.stub / name).write_text(text + "\n")

    def run(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A script of the export, by its path in it."""
        for name in ("log", "changes", "count"):
            (self.stub / name).unlink(missing_ok=True)
        return subprocess.run(
            ["bash", str(self.export / script), *args],
            cwd=self.target,
            env={"PATH": self.path, "STUB": str(self.stub), "LC_ALL": "C", **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def changes(self) -> list[str]:
        """What the last run did to the stack, in order."""
        path = self.stub / "changes"
        return path.read_text().splitlines() if path.exists() else []

    def tree(self) -> dict[str, bytes]:
        """Every deployed file, what the scripts remember excluded."""
        paths = (p for p in sorted(self.target.rglob("*")) if p.is_file())
        found = {p.relative_to(self.target).as_posix(): p.read_bytes() for p in paths}
        return {name: data for name, data in found.items() if not name.startswith(".hasim-")}

    def copy(self, place: Path) -> Lab:
        """The same, apart."""
        for name in ("target", "stub"):
            shutil.copytree(getattr(self, name), place / name)
        return replace(self, target=place / "target", stub=place / "stub")
