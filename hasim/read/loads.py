"""A load of scenarios.yaml, with what a real k6 script says, as a Load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hasim.errors import Finding, did_you_mean
from hasim.model import ZERO, Dist
from hasim.read.forms import Loc, place, problem
from hasim.read.k6 import K6Scenario, K6Script, K6Step
from hasim.read.scenario_forms import ClientForm, LoadForm
from hasim.read.yaml12 import Node
from hasim.scenario import Client, FlowStep, Load

# What a kind of client does unless it is stated. Sources: k6 documentation "Options" (60 s per
# request) and its dialer (30 s); Firefox preferences network.http.response.timeout 300 s and
# network.http.connection-timeout 90 s; pooled libraries and one-shot tools keep Client's times.
CLIENTS = {
    "k6": Client(),
    "browser": Client("browser", timeout_s=300.0, connect_timeout_s=90.0),
    "pooled-library": Client("pooled-library", replay=False),
    "one-shot": Client("one-shot", keep_alive=False, replay=False),
}
# executor -> the keys that it needs (k6 documentation, "Executors")
NEEDS = {
    "constant-vus": ("vus", "duration"),
    "ramping-vus": ("stages",),
    "constant-arrival-rate": ("rate", "duration"),
    "ramping-arrival-rate": ("stages",),
}
TAKES = {
    "constant-vus": ("vus", "duration"),
    "ramping-vus": ("startVUs", "stages", "gracefulRampDown"),
    "constant-arrival-rate": (
        "rate",
        "timeUnit",
        "duration",
        "preAllocatedVUs",
        "maxVUs",
        "arrivals",
    ),
    "ramping-arrival-rate": (
        "startRate",
        "timeUnit",
        "stages",
        "preAllocatedVUs",
        "maxVUs",
        "arrivals",
    ),
}
SHAPE = sorted({k for keys in TAKES.values() for k in keys})
Script = Callable[[str], tuple[K6Script | None, list[Finding]]]


def make_load(
    name: str, form: LoadForm, node: Node, loc: Loc, script: Script
) -> tuple[Load | None, list[Finding]]:
    """The Load. `script` reads the k6 file that `from:` names."""
    made = _Maker(form, node, loc)
    base = made.from_script(script) if form.from_ else None
    if form.from_ and base is None:
        return None, made.findings
    executor = form.executor or (base.executor if base else "")
    if not executor:
        made.wrong("", "an executor is needed", f"one of {', '.join(NEEDS)}, or from: load.k6.js")
        return None, made.findings
    if form.scenario and not form.from_:
        made.wrong("scenario", "'scenario' goes with 'from'")
    shape = made.shape(name, executor, base)
    if shape is None:
        return None, made.findings
    load = replace(shape, flow=made.flow(base), client=client(form.client))
    made.check(load)
    return None if made.failed else load, made.findings


def client(form: str | ClientForm | None) -> Client:
    """The Client, with the defaults of its kind."""
    if not isinstance(form, ClientForm):
        return CLIENTS[form or "k6"]
    base = CLIENTS[form.kind]
    return replace(
        base,
        timeout_s=base.timeout_s if form.timeout is None else form.timeout,
        connect_timeout_s=(
            base.connect_timeout_s if form.connect_timeout is None else form.connect_timeout
        ),
        keep_alive=base.keep_alive if form.keep_alive is None else form.keep_alive,
        replay=base.replay if form.replay is None else form.replay,
        retries=form.retries,
        backoff_s=form.backoff,
        jitter=form.jitter,
    )


class _Maker:
    """One load under construction: the form, where it stands, what is wrong with it."""

    def __init__(self, form: LoadForm, node: Node, loc: Loc):
        self.form, self.node, self.loc = form, node, loc
        self.findings: list[Finding] = []

    def wrong(self, key: str, message: str, hint: str = "", at_key: bool = False) -> None:
        span = place(self.node, (*self.loc, key) if key else self.loc, key=at_key)
        self.findings.append(problem(message, span, hint))

    def warn(self, key: str, message: str) -> None:
        span = place(self.node, (*self.loc, key))
        self.findings.append(Finding("warning", "HA105", message, span))

    @property
    def failed(self) -> bool:
        """Whether there is an error among the findings."""
        return any(f.severity == "error" for f in self.findings)

    def from_script(self, script: Script) -> K6Scenario | None:
        """The scenario of the k6 script that the load names; its only one by default."""
        read, found = script(self.form.from_)
        self.findings += found
        if read is None:
            if not found:
                self.wrong("from", f"there is no file '{self.form.from_}'")
            return None
        names = [s.name for s in read.scenarios]
        wanted = self.form.scenario or (names[0] if len(names) == 1 else "")
        if wanted in names:
            chosen = read.scenarios[names.index(wanted)]
            if chosen.start_time_s:
                self.warn("from", f"startTime of '{wanted}' is left out: the load begins at once")
            if self.form.mix is None and any(s.batch for s in chosen.steps):
                self.warn("from", f"the batches of '{wanted}' are sent one request after the other")
            return chosen
        if self.form.scenario:
            hint = did_you_mean(wanted, names) or f"it has {', '.join(names) or 'none'}"
            self.wrong("scenario", f"'{self.form.from_}' has no scenario '{wanted}'", hint)
        elif names:
            self.wrong("from", f"which scenario of '{self.form.from_}'?", f"one of {names}")
        else:
            self.wrong("from", f"'{self.form.from_}' has no scenario that can be read")
        return None

    def shape(self, name: str, executor: str, base: K6Scenario | None) -> Load | None:
        """Stages and users; stated keys override the script's."""
        form = self.form
        same = base is not None and executor == base.executor
        for key in NEEDS[executor]:
            if getattr(form, key) is None and not same:
                self.wrong("", f"{executor} needs '{key}'")
        for key in SHAPE:
            if getattr(form, key) is not None and key not in TAKES[executor]:
                takes = ", ".join(TAKES[executor])
                self.wrong(key, f"{executor} takes no '{key}'", f"it takes {takes}", at_key=True)
        if self.failed:
            return None
        start, stages = self._levels(executor, base if same else None)
        pre = _or(form.preAllocatedVUs, base.pre_allocated_vus if base and same else 0)
        most = _or(form.maxVUs, base.max_vus if base and same else 0)
        return Load(
            name=name,
            executor=executor,
            stages=stages,
            start=start,
            time_unit_s=_or(form.timeUnit, base.time_unit_s if base and same else 1.0),
            pre_allocated_vus=pre or most,
            max_vus=most or pre,
            arrivals=form.arrivals or "even",
            graceful_stop_s=_or(form.gracefulStop, base.graceful_stop_s if base else 30.0),
            graceful_ramp_down_s=_or(
                form.gracefulRampDown, base.graceful_ramp_down_s if base else 30.0
            ),
            span=place(self.node, self.loc),
        )

    def _levels(
        self, executor: str, base: K6Scenario | None
    ) -> tuple[float, tuple[tuple[float, float], ...]]:
        form = self.form
        if executor.startswith("constant"):
            stated = form.vus if executor == "constant-vus" else form.rate
            level = float(_or(stated, base.start if base else 0))
            duration = _or(form.duration, sum(d for d, _ in base.stages) if base else 0.0)
            return level, ((duration, level),)
        # k6: startVUs is 1 and startRate 0 unless stated
        first = 1.0 if executor == "ramping-vus" else 0.0
        stated = form.startVUs if executor == "ramping-vus" else form.startRate
        start = float(_or(stated, base.start if base else first))
        if form.stages is None:
            return start, base.stages if base else ()
        return start, tuple((s.duration, s.target) for s in form.stages)

    def flow(self, base: K6Scenario | None) -> tuple[FlowStep, ...]:
        """What one iteration does: the stated mix, else the requests of the script."""
        form = self.form
        steps = base.steps if base else ()
        if form.mix is None:
            if not any(s.kind == "request" for s in steps):
                self.wrong(
                    "",
                    "no 'mix': which operations do the users ask for?",
                    "mix: {browse: 80%, publish: 20%}",
                )
                return ()
            return _flow_of(steps, form.think_time)
        total = sum(form.mix.values())
        if abs(total - 1) > 1e-9:
            self.wrong("mix", f"the mix adds up to {total * 100:.6g} %, not 100 %")
        if not form.mix:
            self.wrong("mix", "the mix is empty")
        slept = sum(s.seconds for s in steps if s.kind == "sleep")
        think = form.think_time or (Dist("const", slept) if slept else ZERO)
        mix = tuple((op, weight) for op, weight in form.mix.items() if weight)
        return (FlowStep(mix, think),)

    def check(self, load: Load) -> None:
        """Loads that would do nothing, or that k6 refuses."""
        where = "stages" if self.form.stages is not None else "duration"
        if load.duration_s <= 0:
            self.wrong(where, "the load lasts no time at all")
        elif load.start == 0 and all(target == 0 for _, target in load.stages):
            key = {"constant-vus": "vus", "constant-arrival-rate": "rate"}.get(load.executor)
            self.wrong(key or where, "the load is zero all the time")
        elif load.duration_s > 10 * 365 * 86400:
            self.wrong(where, "the load is longer than ten years")
        if load.time_unit_s <= 0:
            self.wrong("timeUnit", "timeUnit must be longer than zero")
        if load.executor.endswith("arrival-rate"):
            if not load.max_vus:
                self.wrong("", f"{load.executor} needs 'preAllocatedVUs' or 'maxVUs'")
            elif load.max_vus < load.pre_allocated_vus:
                self.wrong("maxVUs", "maxVUs is less than preAllocatedVUs")


def _or(stated, default):
    return default if stated is None else stated


def _flow_of(steps: tuple[K6Step, ...], think: Dist | None) -> tuple[FlowStep, ...]:
    """One FlowStep per request; the sleeps behind it are its pause.

    A request is named "GET /path" until the stack tells which operation that is.
    """
    flow: list[FlowStep] = []
    for step in steps:
        if step.kind == "request":
            flow.append(FlowStep(((f"{step.method or 'GET'} {step.path}", 1.0),)))
        elif flow and think is None:
            pause = flow[-1].think.a + step.seconds
            flow[-1] = replace(flow[-1], think=Dist("const", pause))
    if think is not None:
        flow[-1] = replace(flow[-1], think=think)
    return tuple(flow)
