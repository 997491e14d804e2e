"""The laboratory of tests/measured/haproxy.csv as files: one folder per (variant, servers, service
time), one scenario per trial. Everything goes through the readers, as a user's files do.

One host, as in the laboratory: HAProxy, n servers, a client that opens a connection per request.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hasim.bind import load_scenarios
from hasim.model import Stack
from hasim.scenario import Scenario
from hasim.sim.run import replicate
from hasim.sim.trace import Trace

SEED = 20260101
MEASURED = Path(__file__).resolve().parent.parent / "measured"

# The check of web-1 that begins here is the last good one before the fault.
PIN_S = 0.9
CHECK_S = 0.001  # how long it takes; HAProxy's log in the laboratory says 0 to 2 ms

# What the laboratory did to the server, as a fault of scenarios.yaml.
FAULTS = {
    "rst": "do: crash, target: web-1",
    "drop": "do: blackhole, target: web-1",
    "stop": "do: pause, target: web-1",
    "h503": "do: unhealthy, target: web-1, status: 503",
    "slow2.5": "do: slow, target: gate, latency: 2.5s",
}
TAIL_S = 12.0  # longer than any recovery that was measured

HAPROXY_CFG = """
global
    maxconn 4096
defaults
    mode http
    timeout connect {connect}
    timeout client  50000
    timeout server  50000
{defaults}
frontend web-in
    bind *:8000
    default_backend web
backend web
    balance {balance}
    option httpchk GET /health/live
    http-check expect status 200
{backend}
{servers}
"""

STACK_YAML = """
hosts:
  lab: {{cores: 64, memory: 64GiB, address: 10.0.1.10, source: "assume: one machine"}}
versions: {{haproxy: 2.6.12}}
plain:
  haproxy: {{host: lab, haproxy: haproxy.cfg}}
{servers}
entry:
  users: {{via: address 10.0.1.10}}
groups:
  web: [{names}]
"""

# /health/live asks a gate, so that `slow` can make it late and leave `/` alone. A reply that is
# under way keeps its delay when the fault ends, as the laboratory's sleeping handler did.
PROFILE_YAML = """
web:
  workers: 1000
  mode: async
  boot: {boot}
  on_sigterm: {{listener: close, in_flight: finish}}
  ops:
    get: {{path: /, io: {service}ms}}
    put: {{path: /put, write: true, io: {service}ms}}
  health:
    /health/live: {{cpu: {health}ms}}
  source: {{assume: "the laboratory's server"}}
"""
GATE_YAML = """
late:
  workers: 1000
  mode: async
  boot: 0s
  on_sigterm: {listener: close, in_flight: finish}
  ops:
    get: {path: /, io: 10ms}
    live: {path: /health/live, calls: [{gate: pass}]}
  source: {assume: "the server whose health reply is late"}
gate:
  workers: 1000
  mode: async
  boot: 0s
  on_sigterm: {listener: close, in_flight: finish}
  ops:
    pass: {path: /}
  source: {assume: "what makes a health reply late"}
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One row of tests/measured/haproxy.csv; times in seconds from the fault.

    failed and codes leave out what HAProxy's log does not know (13 requests of one trial).
    """

    number: int
    variant: str
    fault: str
    servers: int
    rate: float
    service_ms: float
    hold_s: float
    phase_s: float
    detect_s: float
    recover_s: float
    failed: int
    codes: dict[str, int]
    retries: dict[str, int]
    latency_max_s: float

    @property
    def cell(self) -> tuple[str, str]:
        return self.variant, self.fault

    @property
    def folder(self) -> tuple[str, str, int, float]:
        """Trials that share their files."""
        gate = "gate" if self.fault == "slow2.5" else ""
        return self.variant, gate, self.servers, self.service_ms


def counts(text: str) -> dict[str, int]:
    """ "503 SC--:67;502 SH--:1" as a dict."""
    pairs = (part.rpartition(":") for part in text.split(";") if part)
    return {key: int(n) for key, _, n in pairs}


def trials() -> list[Trial]:
    """Every measured trial, in the order of the file."""
    with open(MEASURED / "haproxy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Trial(
            number=i,
            variant=r["variant"],
            fault=r["fault"],
            servers=int(r["nserv"]),
            rate=float(r["rate"]),
            service_ms=float(r["svc_ms"]),
            hold_s=float(r["hold_s"]),
            phase_s=float(r["phase_s"]),
            detect_s=float(r["detect_s"]),
            recover_s=float(r["recover_s"]),
            failed=int(r["n_fail"]) - int(r["n_fail_other"].rpartition(":")[2] or 0),
            codes={k: n for k, n in counts(r["term_states"]).items() if k != "nolog"},
            retries=counts(r["retries_hist"]),
            latency_max_s=float(r["lat_win_max"]),
        )
        for i, r in enumerate(rows)
    ]


def cells() -> dict[tuple[str, str], list[Trial]]:
    """(variant, fault) -> its trials."""
    out: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials():
        out[trial.cell].append(trial)
    return dict(out)


def write_stack(
    folder: Path,
    *,
    servers: int = 3,
    service_ms: float = 10.0,
    redispatch: bool = False,
    gate: bool = False,
    check: str = "check inter 2000 rise 2 fall 3",
    defaults: str = "",
    backend: str = "",
    connect_ms: int = 5000,
    balance: str = "roundrobin",
    boot: str = "0s",
    health_ms: float = 1.0,
) -> None:
    """haproxy.cfg, stack.yaml and profile.yaml of the laboratory, changed as asked."""
    names = [f"web-{n}" for n in range(1, servers + 1)]
    lines = [f"    server {n} 10.0.1.10:{8080 + i} {check}" for i, n in enumerate(names, 1)]
    plain = [
        f"  {n}: {{host: lab, service: web, port: {8080 + i}}}" for i, n in enumerate(names, 1)
    ]
    if gate:
        plain[0] = plain[0].replace("service: web", "service: late")
    if gate:
        plain.append("  gate: {host: lab, service: gate, port: 9000}")
    if redispatch:
        defaults += "    option redispatch\n"
    folder.mkdir(parents=True, exist_ok=True)
    config = HAPROXY_CFG.format(
        connect=connect_ms,
        defaults=defaults,
        backend=backend,
        balance=balance,
        servers="\n".join(lines),
    )
    (folder / "haproxy.cfg").write_text(config)
    text = STACK_YAML.format(servers="\n".join(plain), names=", ".join(names))
    (folder / "stack.yaml").write_text(text)
    profile = PROFILE_YAML.format(service=service_ms, boot=boot, health=health_ms)
    (folder / "profile.yaml").write_text(profile + (GATE_YAML if gate else ""))


def scenario_text(
    trial: Trial, pin: bool, rate: float | None = None, at_s: float = PIN_S
) -> tuple[str, str]:
    """The lines of one trial under `loads:` and `scenarios:`."""
    fault_s = at_s + CHECK_S + trial.phase_s if pin else at_s
    length_s = fault_s + trial.hold_s + TAIL_S
    op = "late/get" if trial.fault == "slow2.5" else "web/get"
    load = (
        f"  load-{trial.number}: {{executor: constant-arrival-rate, rate: {rate or trial.rate},"
        f" duration: {length_s:.4f}s, maxVUs: 4000, arrivals: poisson,"
        f" client: one-shot, mix: {{{op}: 100%}}}}\n"
    )
    fault = f"{{at: {fault_s:.4f}s, {FAULTS[trial.fault]}, for: {trial.hold_s:.4f}s}}"
    phases = f"    phases: {{web/web-1: {at_s}}}\n" if pin else ""
    name = f"  trial-{trial.number}:\n    load: load-{trial.number}\n"
    return load, f"{name}    faults: [{fault}]\n{phases}"


def load_trials(
    folder: Path, group: Iterable[Trial], *, pin: bool = True, rate: float | None = None, **changes
) -> tuple[Stack, list[tuple[Trial, Scenario]]]:
    """Write the files of trials that share them and read them as the command line does."""
    group = list(group)
    first = group[0]
    options = {
        "servers": first.servers,
        "service_ms": first.service_ms,
        "redispatch": first.variant == "redisp",
        "gate": first.fault == "slow2.5",
    }
    write_stack(folder, **(options | changes))
    loads, scenarios = zip(*(scenario_text(t, pin, rate) for t in group), strict=True)
    text = "version: 1\nstack: .\nloads:\n" + "".join(loads) + "scenarios:\n" + "".join(scenarios)
    (folder / "scenarios.yaml").write_text(text)
    file, stack = load_scenarios(folder / "scenarios.yaml")
    return stack, list(zip(group, file.scenarios, strict=True))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the simulation made of a trial. detect_s and recover_s as in the csv."""

    detect_s: float
    recover_s: float
    failed: int
    codes: dict[str, int]
    retries: dict[str, int]


def run(stack: Stack, scenario: Scenario, seed: int, number: int, requests: bool) -> Outcome:
    """One replication of a trial."""
    trace = replicate(stack, scenario, seed, number, keep_requests=requests)
    assert not trace.void
    return outcome_of(trace)


def outcome_of(trace: Trace) -> Outcome:
    """Detection, recovery, and how the requests ended."""
    fault = trace.faults[0]
    down = first(trace, "is DOWN", fault.start_s)
    up = first(trace, "is UP", fault.repair_s)
    codes: dict[str, int] = defaultdict(int)
    for (_, status, letters), n in trace.terminations:
        if status != "200":
            codes[f"{status} {letters}"] += n
    return Outcome(
        down - fault.start_s,
        up - fault.repair_s,
        sum(codes.values()),
        dict(codes),
        retries_of(trace),
    )


def retries_of(trace: Trace) -> dict[str, int]:
    """HAProxy's column `retries` of requests that needed any: "+1" if they left their server.

    Only web-1 fails, so whoever ended elsewhere, or nowhere, has left it.
    """
    out: dict[str, int] = defaultdict(int)
    if trace.requests is not None:
        rows = trace.requests[trace.requests["retries"] > 0]
        left = rows["server"] != trace.servers.index("web/web-1")
        for sign, n in zip(left, rows["retries"], strict=True):
            out[("+" if sign else "") + str(n)] += 1
    return dict(out)


def first(trace: Trace, words: str, since_s: float) -> float:
    """When HAProxy first says this of web-1; nan if it does not."""
    return next(
        (
            m.t_s
            for m in trace.timeline
            if m.t_s >= since_s and m.event == f"Server web/web-1 {words}"
        ),
        float("nan"),
    )


def play(
    folder: Path,
    faults: str,
    *,
    rate: float = 50.0,
    seconds: float = 90.0,
    client: str = "one-shot",
    arrivals: str = "even",
    phase_s: float | None = None,
    number: int = 0,
    op: str = "web/get",
    **stack,
) -> Trace:
    """One run of the laboratory with requests kept. faults: the items of the YAML list.

    phase_s pins web-1's check, so that a fault `at(phase_s)` meets that age of its last good one.
    """
    write_stack(folder, **stack)
    pins = f"    phases: {{web/web-1: {PIN_S}}}\n" if phase_s is not None else ""
    text = (
        "version: 1\nstack: .\nloads:\n"
        f"  load: {{executor: constant-arrival-rate, rate: {rate}, duration: {seconds}s,"
        f" preAllocatedVUs: 50, maxVUs: 20000, arrivals: {arrivals}, gracefulStop: 2m,"
        f" client: {client}, mix: {{{op}: 100%}}}}\n"
        f"scenarios:\n  play:\n    load: load\n    faults: [{faults}]\n{pins}"
    )
    (folder / "scenarios.yaml").write_text(text)
    file, built = load_scenarios(folder / "scenarios.yaml")
    trace = replicate(built, file.scenarios[0], SEED, number, keep_requests=True)
    assert not trace.void, trace.void
    return trace


def at(phase_s: float) -> str:
    """The moment of a fault that long after the end of web-1's last good check."""
    return f"{PIN_S + CHECK_S + phase_s:.4f}s"


def failed(trace: Trace):
    """The rows of requests that did not get a 200."""
    return trace.requests[trace.requests["status"] != "200"]


def codes(trace: Trace) -> set[str]:
    """ "503 SC--" of every request that did not get a 200, as HAProxy's log has it."""
    found = {f"{status} {letters}" for (_, status, letters), _ in trace.terminations}
    return found - {"200 ----"}


def said(trace: Trace, words: str, since_s: float = -1e9) -> list[float]:
    """When the timeline has these words."""
    return [m.t_s for m in trace.timeline if words in f"{m.event} {m.detail}" and m.t_s >= since_s]
