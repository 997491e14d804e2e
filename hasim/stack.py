"""A folder of real files to a Stack, and scenarios bound to it.

The only stage that reads a whole folder: compose files, haproxy.cfg, profile.yaml, stack.yaml.
Errors of all files come back together. What compose or a daemon would refuse when it starts is no
error here: it becomes a BootFailure (hasim.boot) and the run says that the stack did not boot.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from hasim import boot, replicas, routes
from hasim.components.base import components
from hasim.components.haproxy.config_knobs import patch
from hasim.errors import Finding, InputError, did_you_mean
from hasim.folder import Files
from hasim.linking import Names, dialling, heard, host_addresses, link
from hasim.loading import Loading
from hasim.model import Knob, Stack
from hasim.source import Patch, Span, apply_patches


def load(folder: str | Path, env: Mapping[str, str] | None = None) -> Stack:
    """The Stack of a folder; InputError with every error of every file.

    env: the variables that compose files and haproxy.cfg may use; the process's own environment
    is never looked at.
    """
    stack, found = load_lenient(folder, env)
    errors = [f for f in found if f.severity == "error" and f.code not in boot.REFUSALS]
    if stack is None or errors:
        raise InputError(errors or found)
    return stack


def load_lenient(
    folder: str | Path, env: Mapping[str, str] | None = None
) -> tuple[Stack | None, list[Finding]]:
    """(Stack as far as it can be made or None, every finding of every severity)."""
    return _load(Files(Path(folder)), env or {})


def with_settings(
    folder: str | Path, settings: Mapping[str, str], env: Mapping[str, str] | None = None
) -> Stack:
    """The Stack with knobs set to other values: {"haproxy.defaults.timeout_connect": "1s"}.

    The texts are patched in memory; no file changes. InputError for an unknown knob.
    """
    texts = patched(folder, settings, env)
    after, found = _load(Files(Path(folder), texts), env or {})
    errors = [f for f in found if f.severity == "error" and f.code not in boot.REFUSALS]
    if after is None or errors:
        raise InputError(errors or found)
    return after


def patched(
    folder: str | Path, settings: Mapping[str, str], env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """{path: text} of every file that was read, with the knobs at their new values.

    All other characters stay. A name may hold `*`, as in `haproxy.backend.web.*.inter`, and then
    means every knob that fits. InputError for a name that fits none, or a value that cannot be.
    """
    files = Files(Path(folder))
    before, found = _load(files, env or {})
    if before is None:
        raise InputError(found)
    texts, wrong = _resized(files, before, settings)
    if texts != files.texts:  # a new instance has lines that other settings may be about
        files = Files(Path(folder), texts)
        before, found = _load(files, env or {})
        if before is None:
            raise InputError(found)
    patches: dict[str, list[Patch]] = {}
    for name, value in settings.items():
        if name.startswith(f"{replicas.DIALECT}."):
            continue
        hit = knobs_named(before.knobs, name)
        if not hit:
            hint = did_you_mean(name, [k.name for k in before.knobs])
            hint = hint or "`hasim list knobs` shows them"
            wrong.append(Finding("error", "HA104", f"unknown knob '{name}'", None, hint))
        try:
            for change in (patch_of(knob, value) for knob in hit):
                listed = patches.setdefault(change.span.file, [])
                listed += [change] if change not in listed else []
        except ValueError as error:
            span = hit[0].origin if isinstance(hit[0].origin, Span) else None
            text = f"{name}={value}: {str(error).removeprefix(f'{name}: ')}"
            wrong.append(Finding("error", "HA104", text, span))
    changed = {}
    for file, changes in patches.items():
        try:
            changed[file] = apply_patches(files.texts[file], changes)
        except ValueError:
            wrong += _at_odds(changes)
    if wrong:
        raise InputError(wrong)
    return {**files.texts, **changed}


def _at_odds(changes: list[Patch]) -> list[Finding]:
    """Places that several settings want to be different."""
    ordered = sorted(changes, key=lambda p: (p.span.start, p.span.end))
    pairs = zip(ordered, ordered[1:], strict=False)
    text = "two settings give one place of a file different values"
    hint = "instances that share a file have one value"
    spans = [b.span for a, b in pairs if b.span.start < a.span.end]
    return [Finding("error", "HA104", text, span, hint) for span in spans]


def _resized(
    files: Files, stack: Stack, settings: Mapping[str, str]
) -> tuple[dict[str, str], list[Finding]]:
    """The texts with as many instances as the settings say, and what is wrong with these."""
    texts, wrong = dict(files.texts), []
    for name, value in settings.items():
        if not name.startswith(f"{replicas.DIALECT}."):
            continue
        hit = knobs_named(stack.knobs, name)
        if not hit:
            hint = did_you_mean(name, [k.name for k in stack.knobs])
            wrong.append(Finding("error", "HA104", f"unknown knob '{name}'", None, hint))
        try:
            for knob in hit:
                texts = replicas.resized(stack, texts, knob, value)
        except ValueError as error:
            wrong.append(Finding("error", "HA104", f"{name}={value}: {error}"))
    return texts, wrong


def knobs_named(knobs: Iterable[Knob], name: str) -> list[Knob]:
    """The knobs of that name: every member of a cluster has one, and `*` stands for any text."""
    if "*" not in name:
        return [k for k in knobs if k.name == name]
    pattern = re.compile(".*".join(map(re.escape, name.split("*"))))
    return [k for k in knobs if pattern.fullmatch(k.name)]


def patch_of(knob: Knob, value: str) -> Patch:
    """The change of one file that puts a value in force. ValueError if it has no place."""
    if knob.dialect == "haproxy":
        return patch(knob, value)
    if knob.insert is not None:
        at = knob.insert
        return Patch(replace(at, end=at.start), knob.insert_text.replace("{value}", value))
    if isinstance(knob.origin, Span) and knob.origin.start >= 0:
        return Patch(knob.origin, value)
    raise ValueError("its place cannot be patched")


def _load(files: Files, env: Mapping[str, str]) -> tuple[Stack | None, list[Finding]]:
    if not files.folder.is_dir():
        return None, [Finding("error", "HA104", f"there is no folder '{files.folder}'")]
    work = Loading(files, env)
    work.read_own()
    hosts = work.hosts()
    placed = work.configure(work.placed(hosts))
    raw = work.balancers(placed)
    addresses = host_addresses(hosts, work.stackfile.addresses, placed)
    binds = {one.name: tuple(b for f in bal.frontends for b in f.binds) for one, bal in raw}
    names = Names(tuple(placed), addresses, binds)
    balancers = [link(balancer, one, names) for one, balancer in raw]
    placed = heard(placed, balancers)
    placed = [dialling(p, work.dials.get(p.name, ()), names) for p in placed]
    names = replace(names, placed=tuple(placed))
    work.check_ports(balancers, placed)
    work.check_servers(balancers)
    work.check_workers(placed)
    entries = work.entries(addresses, raw)
    ways, assumed, found = routes.call_routes(work.services, balancers, names)
    work.assumptions += assumed
    work.findings += [*found, *routes.unmet(work.services, balancers)]
    groups = work.groups(placed)
    failures, order, found = boot.check(placed, balancers, work.projects, work.refusals, names)
    work.findings += found
    inputs = tuple(sorted(files.hashes.items()))
    stack = Stack(
        folder=files.folder.as_posix(),
        name=work.stackfile.name or files.folder.resolve().name,
        sha256=hashlib.sha256("".join(f"{p}\0{h}\n" for p, h in inputs).encode()).hexdigest(),
        inputs=inputs,
        hosts=tuple(replace(h, addresses=addresses[h.name]) for h in hosts),
        links=work.links(hosts),
        instances=tuple(p.instance for p in placed),
        services=work.services,
        balancers=tuple(balancers),
        entries=entries,
        groups=groups,
        assumptions=tuple(work.assumptions),
        findings=tuple(dict.fromkeys(work.findings)),
        boot_failures=(*failures, *work.failures),
        knobs=tuple({(k.name, k.origin, k.insert): k for k in work.knobs}.values()),
        op_entries=routes.op_entries(entries, work.services, balancers, names),
        call_routes=ways,
        boot_order=order,
        kernel=work.stackfile.kernel,
        sizes=work.stackfile.sizes,
    )
    stack = _ask_components(stack)
    return stack, list(stack.findings)


def _ask_components(stack: Stack) -> Stack:
    """Each kind of software adds its knobs and its findings (hasim.components.base)."""
    kinds = components().values()
    knobs = tuple(knob for kind in kinds for knob in kind.knobs(stack))
    knobs = (*knobs, *replicas.knobs(stack))
    findings = tuple(finding for kind in kinds for finding in kind.lint(stack))
    if not knobs and not findings:
        return stack
    return replace(stack, knobs=(*stack.knobs, *knobs), findings=(*stack.findings, *findings))
