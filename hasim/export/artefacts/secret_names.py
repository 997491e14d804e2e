"""Literal secrets of the user's compose files as references, so that no line of ours holds one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hasim.report.redact import found

_URL_USER = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^\s/:@]*):\Z")
_FILE = re.compile(r"[_-]file[\"']?[\s:=,]*[\"']?\Z", re.IGNORECASE)  # it names where a secret is
_DEFAULTED = re.compile(r"\$\{(?P<name>\w+):?[-+]\Z")
_FLAG_NAMES = {
    "requirepass": "REDIS_PASSWORD",
    "masterauth": "REDIS_PASSWORD",
    "pgpassword": "REPLICATION_PASSWORD",  # libpq's own name means something in every shell
}


@dataclass
class SecretNames:
    """A variable for each secret value; the same value has the same name everywhere.

    values: {name: value}, in the order in which they were met; only names go into files.
    """

    values: dict[str, str] = field(default_factory=dict)

    def hide(self, key: str, raw: str) -> str:
        """The text of a compose value with each literal secret as `${NAME:?...}`.

        key: the word that the value stands behind ("POSTGRES_PASSWORD", "command").
        """
        before = f"{key}: "
        text, out, at = before + raw, [], 0
        for (start, end), value in sorted(found(text)):
            if start < max(at, len(before)) or _FILE.search(text, 0, start):
                continue
            default = _DEFAULTED.search(text, 0, start)
            if default:  # ${NAME:-secret}: the name is there, its default is the secret
                closing = text.index("}", end) + 1
                out += [text[at : default.start()], _reference(default["name"])]
                self.values.setdefault(default["name"], value)
                at = closing
                continue
            out += [text[at:start], _reference(self.name(_wish(key, text[:start]), value))]
            at = end
        return "".join([*out, text[at:]])[len(before) :]

    def name(self, wish: str, value: str) -> str:
        """The name of a value: the one it has, else `wish`, with a number if that is taken."""
        for name, known in self.values.items():
            if known == value:
                return name
        name, number = wish, 2
        while name in self.values:
            name, number = f"{wish}_{number}", number + 1
        self.values[name] = value
        return name


def _reference(name: str) -> str:
    return f"${{{name}:?set it in .env}}"


def _wish(key: str, before: str) -> str:
    """What a secret may be called, by what stands before it."""
    url = _URL_USER.search(before)
    if url:
        who = url["user"] or url["scheme"].partition("+")[0].partition(":")[0]
        return _upper(f"{who}_PASSWORD")
    word = re.search(r"([\w.-]+)[\"']?(?:[=:]|,|\s)\s*[\"']?\Z", before)
    flag = word[1].lstrip("-") if word else key
    return _FLAG_NAMES.get(flag.lower(), _upper(flag or key))


def _upper(text: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", text.upper()).lstrip("0123456789_") or "SECRET"
