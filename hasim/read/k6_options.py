"""k6 `options`: scenarios, stages and thresholds, with k6's own defaults.

Source: Grafana k6 documentation, "Options reference", "Executors" and "Thresholds"; what it
refuses, bare durations (ms) and quoted numbers were tried with `k6 inspect` 1.1.0.
"""

from __future__ import annotations

import re
from typing import Any

from hasim.errors import Finding, did_you_mean
from hasim.read.k6_types import K6Scenario, K6Threshold
from hasim.read.yaml_node import Node, as_bool, as_float, as_int, as_str
from hasim.source import Span
from hasim.units import parse_duration_s

EXECUTORS = ("constant-vus", "ramping-vus", "constant-arrival-rate", "ramping-arrival-rate")
_OTHERS = ("shared-iterations", "per-vu-iterations", "externally-controlled")
_COMMON = ("executor", "startTime", "gracefulStop", "exec", "env", "tags", "options")
_FIELDS = {
    "constant-vus": ("vus", "duration"),
    "ramping-vus": ("startVUs", "stages", "gracefulRampDown"),
    "constant-arrival-rate": ("rate", "timeUnit", "duration", "preAllocatedVUs", "maxVUs"),
    "ramping-arrival-rate": ("startRate", "timeUnit", "stages", "preAllocatedVUs", "maxVUs"),
}
_DAYS = re.compile(r"([0-9]{1,6})d(.*)", re.ASCII)


def _fail(findings: list[Finding], message: str, span: Span | None, hint: str = "") -> None:
    findings.append(Finding("error", "HA165", message, span, hint))


def duration_s(
    node: Node | None, what: str, findings: list[Finding], default: float = 0.0
) -> float:
    """A k6 duration: "1m30s", "1d2h", or a bare number of milliseconds."""
    if node is None or node.is_null:
        return default
    text = as_str(node, what, findings).strip()
    try:
        if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text, re.ASCII):
            return float(text) / 1000
        days = _DAYS.fullmatch(text)
        extra = int(days[1]) * 86400.0 if days else 0.0
        rest = days[2] if days else text
        return extra + (parse_duration_s(rest, "go", zero=True) if rest or not days else 0.0)
    except ValueError as error:
        _fail(findings, f"{what}: {error}", node.span)
        return default


class Options:
    """Reads the options object of one script."""

    def __init__(self, node: Node, findings: list[Finding]):
        self.node, self.findings = node, findings

    def scenarios(self) -> tuple[K6Scenario, ...]:
        """All scenarios; the top-level shortcuts make one that is called `default`."""
        named = self.node.get("scenarios")
        if named is not None:
            for other in ("stages", "duration", "iterations"):
                if (key := self.node.key(other)) is not None:
                    message = f"k6 refuses `scenarios` together with `{other}`"
                    _fail(self.findings, message, key.span)
            if named.kind != "map":
                _fail(self.findings, "scenarios must be an object", named.span)
            found = [self.scenario(k, v) for k, v in named.items()]
            return tuple(s for s in found if s is not None)
        short = self._shortcut()
        return () if short is None else (short,)

    def _shortcut(self) -> K6Scenario | None:
        """vus, duration, iterations and stages at the top (k6 derives a scenario from them)."""
        get, node = self.node.get, self.node
        stages, length, times = get("stages"), get("duration"), get("iterations")
        if stages is not None and (length is not None or times is not None):
            other = "duration" if length is not None else "iterations"
            _fail(self.findings, f"k6 refuses `stages` together with `{other}`", stages.span)
        if stages is not None:
            base = Node("map", self._pairs({"vus": "startVUs", "stages": "stages"}), node.span)
            return self._build("default", "ramping-vus", base)
        if times is not None or length is None:
            place = times.span if times is not None else node.span
            what = "`iterations`" if times is not None else "a script without duration or stages"
            self._not_simulated(f"{what} (executor shared-iterations)", place)
            return None
        base = Node("map", self._pairs({"vus": "vus", "duration": "duration"}), node.span)
        return self._build("default", "constant-vus", base)

    def _pairs(self, names: dict[str, str]) -> tuple[tuple[Node, Node], ...]:
        found = [(self.node.key(old), self.node.get(old), new) for old, new in names.items()]
        return tuple(
            (Node("scalar", new, key.span, "", new), value)
            for key, value, new in found
            if key is not None and value is not None
        )

    def _not_simulated(self, what: str, span: Span) -> None:
        hint = f"use one of {', '.join(EXECUTORS)}, or state the load in scenarios.yaml"
        self.findings.append(Finding("error", "HA163", f"{what} is not simulated", span, hint))

    def scenario(self, name: str, node: Node) -> K6Scenario | None:
        """One entry of `scenarios`, or None with a Finding."""
        executor = node.get("executor")
        kind = as_str(executor, "executor", self.findings)
        if executor is None or not kind:
            _fail(self.findings, f"scenario '{name}' needs an executor", node.span)
            return None
        if kind in _OTHERS:
            self._not_simulated(f"executor {kind}", executor.span)
            return None
        if kind not in EXECUTORS:
            hint = did_you_mean(kind, (*EXECUTORS, *_OTHERS))
            _fail(self.findings, f"k6 has no executor '{kind}'", executor.span, hint)
            return None
        known = (*_COMMON, *_FIELDS[kind])
        for key, _ in node.value:
            if key.raw not in known:
                hint = did_you_mean(key.raw, known)
                _fail(self.findings, f"executor {kind} has no '{key.raw}'", key.span, hint)
        return self._build(name, kind, node)

    def _build(self, name: str, executor: str, node: Node) -> K6Scenario:
        findings, get = self.findings, node.get
        rate = executor.endswith("arrival-rate")
        level = (
            ("rate" if rate else "vus")
            if executor.startswith("constant")
            else ("startRate" if rate else "startVUs")
        )
        unset = {"rate": 0, "startRate": 0}.get(level, 1)  # measured with k6 1.1.0
        start = self._level(get(level), level, float(unset))
        if executor.startswith("constant"):
            for needed in ("duration", *(("rate",) if rate else ())):
                self._needs(name, node, needed)
            stages: tuple[tuple[float, float], ...] = (
                (duration_s(get("duration"), "duration", findings), start),
            )
        else:
            self._needs(name, node, "stages")
            stages = self._stages(get("stages"))
        if rate:
            self._needs(name, node, "preAllocatedVUs")
        users = as_int(get("preAllocatedVUs"), "preAllocatedVUs", findings)
        return K6Scenario(
            name,
            executor,
            stages,
            start,
            time_unit_s=duration_s(get("timeUnit"), "timeUnit", findings, 1.0),
            pre_allocated_vus=users,
            max_vus=max(users, as_int(get("maxVUs"), "maxVUs", findings, users)),
            start_time_s=duration_s(get("startTime"), "startTime", findings),
            graceful_stop_s=duration_s(get("gracefulStop"), "gracefulStop", findings, 30.0),
            graceful_ramp_down_s=duration_s(
                get("gracefulRampDown"), "gracefulRampDown", findings, 30.0
            ),
            exec=as_str(get("exec"), "exec", findings, "default"),
            span=node.span,
            where={key: value.span for key, value in node.items()},
        )

    def _needs(self, name: str, node: Node, field: str) -> None:
        if node.get(field) is None:
            message = f"scenario '{name}' has no readable '{field}'"
            _fail(self.findings, message, node.span, "state it in scenarios.yaml")

    def _level(self, node: Node | None, what: str, default: float) -> float:
        value = as_float(node, what, self.findings, default)
        if node is not None and (value < 0 or not value.is_integer()):
            _fail(self.findings, f"{what} must be a whole number, 0 or more", node.span)
            return default
        return value

    def _stages(self, node: Node | None) -> tuple[tuple[float, float], ...]:
        if node is None:
            return ()
        if node.kind != "seq":
            _fail(self.findings, "stages must be an array", node.span)
            return ()
        out = []
        for item in node.value:
            if item.get("duration") is None or item.get("target") is None:
                message = "a stage needs a readable duration and target"
                _fail(self.findings, message, item.span, "state the stages in scenarios.yaml")
                continue
            length = duration_s(item.get("duration"), "duration", self.findings)
            out.append((length, self._level(item.get("target"), "target", 0.0)))
        if not out:
            _fail(self.findings, "stages are empty", node.span)
        return tuple(out)

    def thresholds(self) -> tuple[K6Threshold, ...]:
        """Every threshold expression, in file order."""
        node = self.node.get("thresholds")
        if node is not None and node.kind != "map":
            _fail(self.findings, "thresholds must be an object", node.span)
        out: list[K6Threshold] = []
        for metric, value in node.items() if node is not None else ():
            if value.kind != "seq":
                _fail(self.findings, f"thresholds of '{metric}' must be an array", value.span)
            for item in value.value if value.kind == "seq" else ():
                out += self._threshold(metric, item)
        return tuple(out)

    def _threshold(self, metric: str, item: Node) -> list[K6Threshold]:
        if item.kind == "scalar":
            return [K6Threshold(metric, item.raw, span=item.span)]
        text: Any = item.get("threshold")
        if text is None or text.kind != "scalar":
            _fail(self.findings, "a threshold needs its expression", item.span)
            return []
        stop = as_bool(item.get("abortOnFail"), "abortOnFail", self.findings)
        delay = duration_s(item.get("delayAbortEval"), "delayAbortEval", self.findings)
        return [K6Threshold(metric, text.raw, stop, delay, text.span)]
