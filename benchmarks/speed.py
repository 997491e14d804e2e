"""How fast hasim is, as ratios against things run beside it; medians of 5.

usage: python benchmarks/speed.py [w2] [gateway] [data] [scale] [command]     (default: all)

w2       models/closed-network as a stack folder through replicate(), histograms on, against
         benchmarks/simpy_w2.py and benchmarks/w2.c (needs a C compiler)
gateway  HAProxy -> gateway with deadlines, retries, memory and CPU sharing on: requests per CPU s
data     gateway -> Redis and PostgreSQL of the story portal, control plane included
scale    50,000 users against 500: cost per event
command  `hasim --help` in CPU seconds, first compilation, peak memory of a long run
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hasim.bind import load_scenarios
from hasim.model import Dist
from hasim.scenario import FlowStep, Load, Scenario
from hasim.sim.run import replicate, warm_up

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
ROUNDS = 5


def median(measure) -> float:
    """Median of ROUNDS measurements."""
    return statistics.median(measure() for _ in range(ROUNDS))


def cpu_of(stack, scenario) -> tuple[float, int, int]:
    """CPU seconds, requests and kernel events of one replication."""
    start = time.process_time()
    trace = replicate(stack, scenario, 1, 0)
    return time.process_time() - start, trace.counters["requests"], trace.counters["events"]


def last_number(command: list[str]) -> tuple[int, float]:
    """(requests, CPU seconds) that a yardstick prints."""
    words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(words[0]), float(words[-1])


def w2() -> None:
    """W2 against idiomatic SimPy and a C event loop."""
    _, stack = load_scenarios(MODELS / "closed-network" / "scenarios.yaml")
    op = next(iter(stack.op_entries))
    flow = (FlowStep(((op, 1.0),), Dist("exp", 1.0)),)
    load = Load("w2", "constant-vus", ((1020.0, 500.0),), 500.0, flow=flow)
    scenario = Scenario("w2", "", load, probe_rate=0.0)

    def ours() -> float:
        cpu, requests, _ = cpu_of(stack, scenario)
        return 1e9 * cpu / requests

    def simpy() -> float:
        requests, cpu = last_number([sys.executable, str(HERE / "simpy_w2.py"), "1", "60"])
        return 1e9 * cpu / requests

    hasim_ns, simpy_ns = median(ours), median(simpy)
    print(f"w2: hasim {hasim_ns:.0f} ns a request; SimPy {simpy_ns:.0f} ns: "
          f"{simpy_ns / hasim_ns:.0f} x")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        binary = str(Path(folder) / "w2")
        source = str(HERE / "w2.c")
        subprocess.run(["cc", "-O3", "-o", binary, source, "-lm"], check=True)

        def c_loop() -> float:
            requests, cpu = last_number([binary, "1"])
            return 1e9 * cpu / requests

        c_ns = median(c_loop)
    print(f"w2: C event loop with a heap {c_ns:.0f} ns a request: hasim takes "
          f"{hasim_ns / c_ns:.2f} x of it")  # fmt: skip


def requests_per_cpu_second(op: str, seconds: float) -> float:
    """500 users who ask the story portal for one operation; everything else goes on as always."""
    _, stack = load_scenarios(HERE.parent / "scenarios.yaml")
    flow = (FlowStep(((op, 1.0),), Dist("exp", 1.0)),)
    load = Load(op, "constant-vus", ((seconds, 500.0),), 500.0, flow=flow)
    scenario = Scenario(op, "", load)

    def rate() -> float:
        cpu, requests, _ = cpu_of(stack, scenario)
        return requests / cpu

    return median(rate)


def gateway() -> None:
    """HAProxy -> a service, without a nested call."""
    rate = requests_per_cpu_second("platform-ui/page", 300.0)
    print(f"gateway: {rate / 1e6:.2f} million requests per CPU second")


def data() -> None:
    """HAProxy -> gateway -> Sentinel's master, then HAProxy in TCP mode -> a replica, pooled."""
    rate = requests_per_cpu_second("l09-api-gateway/feed", 900.0)
    print(f"data: {rate / 1e6:.2f} million requests per CPU second, each with two calls of stores")


def scale() -> None:
    """Cost per event with 50,000 users against 500."""
    _, stack = load_scenarios(MODELS / "closed-network" / "scenarios.yaml")
    op = next(iter(stack.op_entries))

    def per_event(users: int, think_s: float, seconds: float) -> float:
        flow = (FlowStep(((op, 1.0),), Dist("exp", think_s)),)
        load = Load("scale", "constant-vus", ((seconds, users),), users, flow=flow)
        scenario = Scenario("scale", "", load, probe_rate=0.0)

        def once() -> float:
            cpu, _, events = cpu_of(stack, scenario)
            return 1e9 * cpu / events

        return median(once)

    few, many = per_event(500, 1.0, 600.0), per_event(50_000, 100.0, 600.0)
    print(f"scale: {few:.0f} ns an event with 500 users, {many:.0f} ns with 50,000: "
          f"{many / few:.2f} x")  # fmt: skip


def command() -> None:
    """The command line: start-up, compilation, memory."""

    def children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def help_cpu() -> float:
        before = children()
        subprocess.run([sys.executable, "-m", "hasim", "--help"], check=True, capture_output=True)
        return children() - before

    print(f"command: hasim --help takes {median(help_cpu):.2f} s of CPU")
    with tempfile.TemporaryDirectory() as folder:
        before = children()
        code = "from hasim.sim.run import warm_up; warm_up(lambda _: None)"
        env = {**os.environ, "HASIM_CACHE_DIR": folder}
        subprocess.run([sys.executable, "-c", code], check=True, env=env)
        print(f"command: first compilation takes {children() - before:.1f} s of CPU")
    file, stack = load_scenarios(HERE.parent / "scenarios.yaml")
    steady = next(s for s in file.scenarios if s.name == "steady-500-users")
    replicate(stack, steady, 1, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"command: peak memory of one process {peak:.0f} MiB")


if __name__ == "__main__":
    warm_up(lambda text: print(text, file=sys.stderr))
    parts = (w2, gateway, data, scale, command)
    known = {part.__name__: part for part in parts}
    for name in sys.argv[1:] or known:
        known[name]()
