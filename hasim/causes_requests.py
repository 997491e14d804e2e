"""What became of the requests: HAProxy's termination letters, with the setting behind each wait."""

from __future__ import annotations

import math
from collections import Counter

from hasim.causes_text import Cause, place
from hasim.metrics_requests import by_outcome
from hasim.metrics_view import View
from hasim.model import Backend
from hasim.scenario import Client
from hasim.sim.trace import NO_ENTRY, OPEN, TIMEOUT
from hasim.source import Span

# A refused connect is tried again on the same server after a turn-around of at most this long.
# Source: HAProxy, src/backend.c, back_handle_st_cer; measured on 2.6.12.
TURN_AROUND_S = 1.0
NO_SERVER = "<NOSRV>"
Lost = tuple[str, str, str]  # (server, status, the first two termination letters)


def waits(view: View) -> list[Cause]:
    """One sentence per way in which requests were lost, most requests first."""
    lost: Counter[Lost] = Counter()
    for (server, status, letters), n in view.trace.terminations:
        if letters[:2] != "--" and n > 0:
            lost[server, str(status), letters[:2]] += n
    out = []
    for (server, status, letters), n in sorted(lost.items(), key=lambda kv: (-kv[1], kv[0])):
        backend = _backend(view, server)
        if backend is not None:
            out += _sentence(backend, server.rpartition("/")[2], status, letters, n)
    return [*out, *_stuck(view, lost), *_clients(view)]


def _backend(view: View, server: str) -> Backend | None:
    """The backend of `backend/server`, or the only one that has a server of that short name."""
    wanted, _, short = server.rpartition("/")
    found = [
        b
        for balancer in view.stack.balancers
        for b in balancer.backends
        if (b.name == wanted if wanted else any(s.name == short for s in b.servers))
    ]
    return found[0] if found else None


def _sentence(b: Backend, server: str, status: str, letters: str, n: int) -> list[Cause]:
    if letters == "SC" and NO_SERVER in server:
        text = f"{n} requests got {status} at once: no server of {b.name} was left"
        return [Cause(text, span=b.span, requests=n)]
    if letters in ("SC", "sC"):
        return _connect(b, server, status, letters, n)
    if letters == "sH":
        span, note = place(b.where, "timeout_server_s", "timeout_server", fallback=b.span)
        wait = b.timeout_server_s
        text = f"each request sent to {server} waited {_s(wait)}, then {status}: timeout server"
        return [Cause(f"{text}{note}  ({n} requests)", span, _finite(wait), n)]
    if letters == "sQ":
        span, note = place(b.where, "timeout_queue_s", "timeout_queue", fallback=b.span)
        wait = b.timeout_queue_s
        text = f"{n} requests waited {_s(wait)} for a place in {b.name}, then {status}"
        return [Cause(f"{text}: timeout queue{note}", span, _finite(wait), n)]
    other = {
        "SH": "were cut when {s} closed without an answer",
        "SD": "were cut in the middle of the answer of {s}",
        "SQ": "were refused: the queue of {s} is full (maxqueue)",
        "DH": "were cut when {s} was marked down (on-marked-down shutdown-sessions)",
        "DC": "were cut while connecting to {s}, which was marked down",
        "D-": "were closed when {s} was marked down (on-marked-down shutdown-sessions)",
        "CQ": "gave up in the queue for {s}",
        "CC": "gave up while HAProxy was connecting to {s}",
        "CH": "gave up while waiting for {s}",
        "CD": "gave up in the middle of the answer of {s}",
    }.get(letters)
    if other is None:
        return []
    span, why = _not_again(b, "empty-response") if letters == "SH" else (b.span, "")
    code = f" ({status})" if status not in ("0", "-1", "eof", "") else ""
    return [Cause(f"{n} requests{code} {other.format(s=server)}{why}", span or b.span, 0.0, n)]


def _not_again(b: Backend, word: str) -> tuple[Span | None, str]:
    """Why a request that ended in this way was not tried again (`retry-on`), and where it says."""
    if b.retries == 0:
        span, note = place(b.where, "retries", fallback=b.span)
        return span, f"; nothing is tried again: retries 0{note}"
    if word not in b.retry_on and "all-retryable-errors" not in b.retry_on:
        span, note = place(b.where, "retry_on", fallback=b.span)
        only = b.retry_on == ("conn-failure",)
        why = "only connects are tried again" if only else f"retry-on has no {word}"
        return span, f"; {why}{note}"
    if b.no_post_replay:
        span, note = place(b.where, "no_post_replay", fallback=b.span)
        return span, f"; a POST is not tried again: http-request disable-l7-retry{note}"
    span, note = place(b.where, "retries", fallback=b.span)
    return span, f", {b.retries} tries again included: retries {b.retries}{note}"


def _connect(b: Backend, server: str, status: str, letters: str, n: int) -> list[Cause]:
    """Connects that were refused (SC) or unanswered (sC) until the retries were used up."""
    if letters == "sC":
        tries = b.retries + 1
        each = b.timeout_connect_s
        span, note = place(b.where, "timeout_connect_s", "timeout_connect", fallback=b.span)
        text = (
            f"each request sent to {server} waited {_s(tries * each)} = {tries} x {_s(each)}, "
            f"then {status}: timeout connect{note}, retries {b.retries}"
        )
        wait = tries * each
    else:
        each = min(TURN_AROUND_S, b.timeout_connect_s)
        span, note = place(b.where, "retries", fallback=b.span)
        text = (
            f"each request sent to {server} was refused {b.retries + 1} times in "
            f"{_s(b.retries * each)} = {b.retries} x {_s(each)}, then {status}: "
            f"retries {b.retries}{note}"
        )
        wait = b.retries * each
    out = [Cause(f"{text}  ({n} requests)", span, _finite(wait), n)]
    if not b.redispatch and b.retries > 0:
        span, note = place(b.where, "redispatch", fallback=b.span)
        note = note or " (default, manual 4.2)"
        text = f"retries went back to the same server: no option redispatch{note}"
        out.append(Cause(text, span, 0.0, n))
    return out


def _stuck(view: View, lost: Counter[Lost]) -> list[Cause]:
    """Requests that hung on a silent server, but shorter than `timeout server`."""
    out = []
    for fault in view.faults:
        if fault.do not in ("pause", "blackhole") or any(key[2] == "sH" for key in lost):
            continue
        end = view.trace.duration_s if math.isnan(fault.repair_s) else fault.repair_s
        held = end - fault.start_s
        for balancer in view.stack.balancers:
            for b in balancer.backends:
                hung = view.hit(fault) & {s.instance for s in b.servers}
                if hung and b.timeout_server_s > held:
                    span, note = place(b.where, "timeout_server_s", fallback=b.span)
                    text = (
                        f"requests sent to {', '.join(sorted(hung))} waited for its return, up to "
                        f"{_s(held)}: timeout server {_s(b.timeout_server_s)}{note} is longer"
                    )
                    out.append(Cause(text, span, _finite(held)))
    return out


def _clients(view: View) -> list[Cause]:
    """What the users met without HAProxy: no way in, their own patience, the end of the run."""
    n = by_outcome(view, {})
    client: Client = view.scenario.load.client
    out = []
    if n[NO_ENTRY]:
        text = f"{n[NO_ENTRY]} requests found the way in refused or silent"
        if client.kind == "k6":
            text += "; k6 counts them with http_req_duration 0"
        out.append(Cause(text, requests=int(n[NO_ENTRY])))
    if n[TIMEOUT]:
        text = f"{n[TIMEOUT]} requests were given up by their users after {_s(client.timeout_s)}"
        out.append(Cause(text, view.scenario.load.span, client.timeout_s, int(n[TIMEOUT])))
    if n[OPEN]:
        text = f"{n[OPEN]} requests were still open at the end of the run (interrupted)"
        out.append(Cause(text, requests=int(n[OPEN])))
    return out


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if math.isfinite(seconds) else "without end"


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) else 0.0
