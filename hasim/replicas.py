"""How many instances a balanced service has, as a knob: `replicas.l09-api-gateway`.

One more is the last instance of its host cloned: its compose block, its `server` lines, and every
list of the YAML files that names it (groups, depends_on, targets of Prometheus). One less is the
last one taken out of all of them. Every other character stays. New instances go to the hosts in
turn; a published port that is taken becomes the next free one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from hasim.model import Instance, Knob, Server, Stack
from hasim.source import Patch, Text, apply_patches

MOST = 64  # more instances than this are a slip of the pen
DIALECT = "replicas"


def knobs(stack: Stack) -> list[Knob]:
    """One knob per service all of whose instances stand in a backend and in a compose file."""
    made = []
    for service in dict.fromkeys(i.service for i in stack.instances if i.kind == "service"):
        here = _instances(stack, service)
        last = here[-1].span
        if last is not None and all(i.span and _lines(stack, i) and _number(i) for i in here):
            name = f"{DIALECT}.{service}"
            made.append(Knob(name, str(len(here)), DIALECT, replace(last, start=-1), "recreate"))
    return made


def resized(stack: Stack, texts: Mapping[str, str], knob: Knob, value: str) -> dict[str, str]:
    """The texts with that many instances. ValueError says why it cannot be."""
    if not re.fullmatch(r"[0-9]{1,3}", value, re.ASCII) or not 1 <= int(value) <= MOST:
        raise ValueError(f"a whole number from 1 to {MOST}")
    service, wanted = knob.name.removeprefix(f"{DIALECT}."), int(value)
    here = _instances(stack, service)
    patches = [p for one in here[wanted:] for p in _removed(stack, texts, one)]
    taken = {(p.host_ip, p.host_port) for i in stack.instances for p in i.ports}
    for n in range(len(here), wanted):
        patches += _added(stack, texts, _clone(stack, here, n), taken)
    return _patched(texts, patches)


@dataclass(frozen=True, slots=True)
class _Clone:
    """A new instance, and the last of the old ones, behind whose places in lists it goes."""

    template: Instance
    last: str
    name: str
    number: int


def _instances(stack: Stack, service: str) -> list[Instance]:
    """The instances of a service, the one with the highest number last."""
    mine = [i for i in stack.instances if i.service == service and i.kind == "service"]
    return sorted(mine, key=lambda i: (_number(i), i.name))


def _number(instance: Instance) -> int:
    """The number at the end of its name; 0 without one."""
    match = re.search(r"(\d{1,4})$", instance.name, re.ASCII)
    return int(match[1]) if match else 0


def _lines(stack: Stack, instance: Instance) -> list[tuple[str, Server]]:
    """(file, server) of each line that leads to an instance, once per line."""
    found = {}
    for balancer in stack.balancers:
        for backend in balancer.backends:
            for server in backend.servers:
                if server.instance == instance.name and server.span is not None:
                    found[server.span] = (server.span.file, server)
    return list(found.values())


def _clone(stack: Stack, here: list[Instance], n: int) -> _Clone:
    hosts = [h.name for h in stack.hosts if any(i.host == h.name for i in here)]
    counts = {h: sum(i.host == h for i in here) for h in hosts}
    for _ in range(len(here), n):  # those that came before this one
        counts[min(hosts, key=lambda h: (counts[h], hosts.index(h)))] += 1
    host = min(hosts, key=lambda h: (counts[h], hosts.index(h)))
    template = [i for i in here if i.host == host][-1]
    number = _number(here[-1]) + n + 1 - len(here)
    return _Clone(template, here[-1].name, _renamed(template.name, number), number)


def _renamed(name: str, number: int) -> str:
    return re.sub(r"\d+$", str(number), name)


# ---- one more ----------------------------------------------------------------------------------
def _added(
    stack: Stack, texts: Mapping[str, str], clone: _Clone, taken: set[tuple[str, int]]
) -> Iterator[Patch]:
    """Patches that bring in one instance; the ports that it takes are added to `taken`."""
    template = clone.template
    assert template.span is not None
    file = template.span.file
    ports: dict[int, int] = {}
    for port in template.ports:
        free = port.host_port
        while (port.host_ip, free) in taken:
            free += 1
        taken.add((port.host_ip, free))
        ports[port.host_port] = free
    start, end = _block(texts[file], template)
    block = _named(texts[file][start:end].rstrip("\n"), template.name, clone.name)
    for old, new in ports.items():
        block = re.sub(rf"(?<=[\"' :-]){old}(?=:\d)", str(new), block)
    at = _insertion(texts[file], clone.last, end)
    yield _insert(file, texts[file], at, f"\n{block}\n")
    for cfg, server in _lines(stack, template):
        line = _server_line(texts[cfg], server)
        made = _cloned_line(line, server, clone, ports)
        yield _insert(cfg, texts[cfg], _last_server(texts[cfg], server), made)
    yield from _listed(texts, clone, template, ports)


def _insertion(text: str, last: str, end: int) -> int:
    """Behind the block of the last instance if that is in the same file, else of the template."""
    match = _key(text, last)
    return _block_end(text, match) if match else end


def _cloned_line(line: str, server: Server, clone: _Clone, ports: Mapping[int, int]) -> str:
    """The `server` line of the new instance."""
    made = re.sub(
        rf"^(\s*server\s+){re.escape(server.name)}(?=\s)",
        rf"\g<1>{_renamed(server.name, clone.number)}",
        line,
    )
    made = _named(made, clone.template.name, clone.name)
    for old, new in ports.items():
        made = re.sub(rf":{old}(?=\s|$)", f":{new}", made)
    return made if made.endswith("\n") else f"{made}\n"


def _last_server(text: str, server: Server) -> int:
    """The end of the line behind which a new server goes: that of the highest number so far."""
    assert server.span is not None
    stem = re.escape(re.sub(r"\d+$", "", server.name))
    section_end = re.compile(r"^\S", re.M).search(text, server.span.start)
    stop = section_end.start() if section_end else len(text)
    at = _line_end(text, server.span.start)
    for match in re.compile(rf"^\s*server\s+{stem}\d+\s", re.M).finditer(text, at, stop):
        at = _line_end(text, match.end() - 1)
    return at


def _server_line(text: str, server: Server) -> str:
    assert server.span is not None
    begin = text.rfind("\n", 0, server.span.start) + 1
    return text[begin : _line_end(text, server.span.start)]


def _listed(
    texts: Mapping[str, str], clone: _Clone, template: Instance, ports: Mapping[int, int]
) -> Iterator[Patch]:
    """The new one in every YAML list that holds the one before it, or an address of its host."""
    swaps = {clone.last: clone.name}
    swaps |= {
        f"{p.host_ip}:{p.host_port}": f"{p.host_ip}:{ports[p.host_port]}"
        for p in template.ports
        if p.host_ip
    }
    for file, text in texts.items():
        if not file.endswith((".yml", ".yaml")):
            continue
        for old, new in swaps.items():
            for item in _items(text, old):
                made = _named(item[0], old, new)
                joint = text[item[3] : item[1]] if item[3] >= 0 else ", "
                yield _insert(file, text, item[2], f"{joint}{made}")


def _items(text: str, word: str) -> Iterator[tuple[str, int, int, int]]:
    """(item, start, end, end of the item before it or -1) of a word that is a list's element."""
    quoted = rf"[\"']?{re.escape(word)}[\"']?"
    for match in re.finditer(rf"(?m)^([ \t]*- )({quoted})[ \t]*(?=#|$)", text):
        if not _is_port(text, match.start()):
            yield match[2], match.start(2), match.end(2), match.start(1) - 1
    for match in re.finditer(rf"(?<=[\[,])\s*({quoted})(?=\s*[,\]])", text):
        if "\n" not in match[0]:
            begin = match.start(1)
            comma = text.rfind(",", 0, begin)
            first = text.rfind("[", 0, begin) > comma
            yield match[1], begin, match.end(1), -1 if first else comma


def _is_port(text: str, at: int) -> bool:
    """Is the list that holds this line a `ports:` list?"""
    keys = re.findall(r"(?m)^\s*([\w.-]+):\s*$", text[:at])
    return bool(keys) and keys[-1] == "ports"


# ---- one less ----------------------------------------------------------------------------------
def _removed(stack: Stack, texts: Mapping[str, str], one: Instance) -> Iterator[Patch]:
    """Patches that take out one instance. ValueError if something else still needs it."""
    assert one.span is not None
    file = one.span.file
    start, end = _block(texts[file], one)
    if texts[file][:start].endswith("\n\n"):
        start -= 1
    elif texts[file].startswith("\n", end):
        end += 1
    yield _cut(file, texts[file], start, end)
    for cfg, server in _lines(stack, one):
        assert server.span is not None
        begin = texts[cfg].rfind("\n", 0, server.span.start) + 1
        yield _cut(cfg, texts[cfg], begin, _line_end(texts[cfg], server.span.start))
    words = [one.name, *(f"{p.host_ip}:{p.host_port}" for p in one.ports if p.host_ip)]
    for name, text in texts.items():
        if name.endswith((".yml", ".yaml")):
            for word in words:
                for item, begin, stop, before in _items(text, word):
                    if name == file and start <= begin < end:
                        continue
                    yield _cut(name, text, *_with_joint(text, item, begin, stop, before))


def _with_joint(text: str, item: str, begin: int, end: int, before: int) -> tuple[int, int]:
    """The item with what joins it to its neighbours."""
    if before >= 0:
        return before, end
    comma = re.compile(r"\s*,\s*").match(text, end)
    return begin, comma.end() if comma else end


# ---- text --------------------------------------------------------------------------------------
def _named(text: str, old: str, new: str) -> str:
    return re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", new, text)


def _key(text: str, name: str) -> re.Match[str] | None:
    return re.search(rf"(?m)^([ ]+)[\"']?{re.escape(name)}[\"']?:[ \t]*(#.*)?$", text)


def _block(text: str, one: Instance) -> tuple[int, int]:
    """The compose service's lines: from its key to the next line that is indented no deeper."""
    assert one.span is not None
    begin = text.rfind("\n", 0, one.span.start) + 1
    match = re.compile(r"([ ]*)\S.*").match(text, begin)
    if match is None or match[0].rstrip().endswith("}"):
        raise ValueError(f"{one.span}: written in one line, it cannot be cloned")
    return begin, _block_end(text, match)


def _block_end(text: str, key: re.Match[str]) -> int:
    deeper = re.compile(rf"(?:[ \t]*\n|{key[1]}[ ]+\S.*(?:\n|$)|[ ]*#.*\n(?={key[1]}[ ]))*")
    match = deeper.match(text, _line_end(text, key.start()))
    end = match.end() if match else _line_end(text, key.start())
    return len(text[:end].rstrip("\n")) + 1 if end < len(text) or text.endswith("\n") else end


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _insert(file: str, text: str, at: int, what: str) -> Patch:
    return _cut(file, text, at, at, what)


def _cut(file: str, text: str, start: int, end: int, what: str = "") -> Patch:
    return Patch(Text(file, text).span(start, end), what)


def _patched(texts: Mapping[str, str], patches: Iterable[Patch]) -> dict[str, str]:
    by_file: dict[str, list[Patch]] = {}
    for patch in dict.fromkeys(patches):
        by_file.setdefault(patch.span.file, []).append(patch)
    return {**texts, **{f: apply_patches(texts[f], some) for f, some in by_file.items()}}
