"""The folder of a stack: its files are read once, and nothing outside of it is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

COMPOSE = re.compile(r"(docker-)?compose([.-][\w.-]+)?\.ya?ml")


@dataclass
class Files:
    """The folder; every file that is read is remembered with its hash. texts: in place of disk."""

    folder: Path
    given: Mapping[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The text of a file by its name relative to the folder. OSError if there is none."""
        if name in self.given:
            data = self.given[name].encode()
        else:
            path = self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise ValueError("it leads out of the stack's folder")
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ValueError("no regular file")  # to open a named pipe would wait for ever
            data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text (byte {error.start})") from None
        self.texts[name] = text
        self.hashes[name] = hashlib.sha256(data).hexdigest()
        return text

    def optional(self, name: str) -> str | None:
        """The text, or None if there is no such file."""
        try:
            return self.text(name)
        except OSError:
            return None

    def names(self) -> list[str]:
        """Paths of the YAML files of the folder and of the folders in it."""
        found = (p for glob in ("*.y*ml", "*/*.y*ml") for p in self.folder.glob(glob))
        return sorted(p.relative_to(self.folder).as_posix() for p in found)

    def compose_files(self) -> list[str]:
        """Compose files of the folder that no other one extends."""
        names = sorted(p.name for p in self.folder.glob("*.y*ml") if COMPOSE.fullmatch(p.name))
        top = self.folder.resolve()
        paths = [p for n in names if (p := self.folder / n).is_file()]
        paths = [p for p in paths if p.resolve().is_relative_to(top)]
        texts = {p.name: p.read_text(encoding="utf-8", errors="replace") for p in paths}
        return not_extended(texts)


def not_extended(texts: Mapping[str, str]) -> list[str]:
    """The compose files at the top of a folder, out of {name: text}, that no other one extends."""
    own = {name: text for name, text in sorted(texts.items()) if COMPOSE.fullmatch(name)}
    extended = re.compile(r"file:\s*['\"]?(?:\./)?([\w.-]+)")
    used = {m for text in own.values() for m in extended.findall(text)}
    return [name for name in own if name not in used]
