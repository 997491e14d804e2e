"""keepalived.conf: what it means, what keepalived would say of it, what can be tuned."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasim.components.keepalived import COMPONENT, _knobs
from hasim.components.keepalived.config import build
from hasim.components.keepalived.lint import lint
from hasim.components.keepalived.scripts import looks
from hasim.model import Dist, Entry, Host, Instance, Link, Port, Stack
from hasim.read.compose_types import ComposeService
from hasim.read.keepalived_conf import read_keepalived
from hasim.source import Default, Patch, Span, apply_patches

GOOD = """\
! the load balancer of host-a
$INT=1
global_defs {
    router_id host-a
    vrrp_version 3
    vrrp_garp_master_refresh 60
    script_user root
    enable_script_security
}
vrrp_script chk {
    script "/usr/bin/pgrep -x haproxy"
    interval 2
    weight -20
}
vrrp_instance VI_1
{
    state MASTER
    interface lo  # any interface that exists
    virtual_router_id 51
    priority 101
    advert_int $INT
    unicast_src_ip 127.0.0.1
    unicast_peer { 127.0.0.2 }
    virtual_ipaddress {
        127.0.0.10/32 dev lo
    }
    track_script {
        chk weight -30
    }
}
"""


# VRRP 2 with a password.
SECRET = GOOD.replace("vrrp_version 3", "vrrp_version 2").replace(
    "    virtual_ipaddress {",
    "    authentication {\n        auth_type PASS\n        auth_pass s3cret\n    }\n"
    "    virtual_ipaddress {",
)


def made(text: str = GOOD):
    return build(text, "keepalived.conf", looks)


def test_values_and_places() -> None:
    config, found = made()
    assert found == []
    (one,) = config.instances
    assert (one.name, one.state, one.router_id, one.priority) == ("VI_1", "MASTER", 51, 101)
    assert (one.version, one.advert_s, one.garp_refresh_s, one.down_adverts) == (3, 1.0, 60.0, 3)
    assert one.peers == ("127.0.0.2",)
    assert one.addresses == ("127.0.0.10",)
    (script,) = one.tracks
    assert (script.interval_s, script.fall, script.weight) == (2.0, 1, -30)
    assert script.looks == "process haproxy"
    priority = one.where["priority"]
    assert isinstance(priority, Span)
    assert GOOD[priority.start : priority.end] == "101"
    assert isinstance(one.where["garp_delay_s"], Default)
    assert isinstance(one.where["advert_s"], Span)  # a definition fills it: no place to patch
    assert one.where["advert_s"].start == -1


def test_secrets_are_never_kept() -> None:
    config, found = made(SECRET)
    assert found == []
    assert "s3cret" not in repr(config)
    assert config.instances[0].secret
    other, _ = made(SECRET.replace("s3cret", "another"))
    assert other.instances[0].secret != config.instances[0].secret


BLOCK = "authentication {\n auth_type PASS\n auth_pass s3cret\n }\n    priority 101"
MISTAKES = [
    ("priority 101", BLOCK, "VRRP version 3 has no authentication"),
    ("priority 101", "priority 300", "priority '300' is not between 1 and 255"),
    ("priority 101", "prioritty 101", "unknown keyword 'prioritty'"),
    ("    interface lo  # any interface that exists\n", "", "no interface is stated"),
    ("virtual_router_id 51", "", "virtual_router_id is missing"),
    ("virtual_router_id 51", "virtual_router_id 451", "virtual_router_id '451' is not between"),
    ("state MASTER", "state MASTERR", "unknown state 'MASTERR'"),
    ("state MASTER", "state MASTER\n    nopreempt", "nopreempt does not work with state MASTER"),
    ("        chk weight -30", "        chkk", "track script 'chkk' is not defined"),
    ("weight -20", "weight 300", "weight '300' is not between -253 and 253"),
    ("interval 2", "interval 0", "interval '0' is not between"),
    ("127.0.0.2", "127.0.0.2222", "unicast peer '127.0.0.2222' is no address"),
    ("advert_int $INT", "version 2\n    advert_int 0.3", "advert_int 0.3 is rounded to 1 s"),
    ("weight -30\n    }\n}", "weight -30\n    }\n}\n}", "a '}' too many"),
    ("weight -30\n    }\n}", "weight -30\n    }\n", "'vrrp_instance' is not closed"),
    ("vrrp_script chk", "vrrp_scrip chk", "unknown keyword 'vrrp_scrip'"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_is_found(old: str, new: str, message: str) -> None:
    assert old in GOOD
    _, found = made(GOOD.replace(old, new, 1))
    hits = [f for f in found if message and message in f.message]
    assert len(hits) == (1 if message else 0), found
    assert all(f.span is not None and f.code in ("HA174", "HA175") for f in found)


@pytest.mark.parametrize("case", [None, *MISTAKES])
def test_keepalived_itself_agrees(case, tmp_path: Path) -> None:
    """`keepalived -t` exits with 5 exactly where something is found (0: nothing)."""
    real = shutil.which("keepalived", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not real:
        pytest.skip("no keepalived on this machine")
    interface = next((name for _, name in socket.if_nameindex() if name != "lo"), "")
    if not interface:
        pytest.skip("no interface that keepalived would take")
    text = GOOD if case is None else GOOD.replace(case[0], case[1], 1)
    text = text.replace("interface lo ", f"interface {interface} ")
    file = tmp_path / "keepalived.conf"
    file.write_text(text)
    run = subprocess.run([real, "-t", "-f", str(file)], capture_output=True, text=True)
    _, found = made(text)
    assert run.returncode == (5 if found else 0), run.stderr + run.stdout


@pytest.mark.parametrize(
    ("command", "asks"),
    [
        ("/usr/bin/pgrep -x haproxy", "process haproxy"),
        ("killall -0 haproxy", "process haproxy"),
        ("/usr/bin/killall -0 haproxy", "process haproxy"),
        ("kill -0 $(pidof haproxy)", "process haproxy"),
        ("/bin/kill -0 `cat /run/haproxy.pid`", "process haproxy"),
        ("pidof haproxy", "process haproxy"),
        ("curl -fsS -m 1 http://localhost:8404/stats", "port 8404"),
        ("wget -q -O - http://127.0.0.1/health", "port 80"),
        ("nc -z localhost 5000", "port 5000"),
        ("bash -c '</dev/tcp/127.0.0.1/80'", "port 80"),
        ("/etc/keepalived/check.sh", ""),
        ("ping -c 1 10.0.0.1", ""),
    ],
)
def test_what_a_script_looks_at(command: str, asks: str) -> None:
    assert looks(command) == asks


def test_knobs_can_be_set() -> None:
    config, _ = made()
    knobs = {k.name: k for k in _knobs("keep-a", config)}
    priority = knobs["keepalived.keep-a.VI_1.priority"]
    assert (priority.value, priority.effect) == ("101", "reload")
    interval = knobs["keepalived.keep-a.chk.interval"]
    assert interval.value == "2"
    delay = knobs["keepalived.keep-a.VI_1.garp_master_delay"]
    assert isinstance(delay.origin, Default)
    where, new = delay.insert, delay.insert_text.replace("{value}", "7")
    patched = apply_patches(GOOD, [
        Patch(interval.origin, "1"),
        Patch(replace(where, end=where.start), new),
    ])  # fmt: skip
    again, found = made(patched)
    assert found == []
    assert again.instances[0].garp_delay_s == 7.0
    assert again.instances[0].tracks[0].interval_s == 1.0


@given(st.text(alphabet="{}\"'!#$@ \n\tabvrrp_instance01.", max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_findings_and_no_exception(text: str) -> None:
    tree, found = read_keepalived(text, "x")
    for entry in tree:
        place = entry.span
        raw = text[place.start : place.end]
        bare = raw.replace('"', "").replace("'", "")
        assert place.start < 0 or raw == "{" or entry.key in (raw, bare)
    build(text, "x", looks)
    assert all(f.span is not None for f in found)


def test_recognises_its_containers() -> None:
    span = Span("c.yml", 1, 1)
    assert COMPONENT.recognises(ComposeService("x", span, "c.yml", image="osixia/keepalived:2.0"))
    assert COMPONENT.recognises(ComposeService("x", span, "c.yml", command=("keepalived", "-n")))
    assert not COMPONENT.recognises(ComposeService("x", span, "c.yml", image="haproxy:2.8"))


# ---- lint --------------------------------------------------------------------------------------
def stack(
    a: str = "", b: str = "", link: str = "l2", ports: tuple[Port, ...] = (), **more
) -> Stack:
    texts = {"a": a or own("a"), "b": b or own("b")}
    instances = []
    for node, text in texts.items():
        config, _ = build(text, f"{node}.conf", looks, more.get("sees_host", True))
        one = Instance(f"keep-{node}", "keepalived", f"host-{node}", config=config)
        instances.append(replace(one, network_mode=more.get("network_mode", "host")))
        instances.append(Instance(f"lb-{node}", "haproxy", f"host-{node}", ports=ports))
    hosts = tuple(
        Host(f"host-{n}", 1, 2**30, Dist("const", 1), addresses=(f"10.0.0.1{i}",))
        for i, n in enumerate("ab", 1)
    )
    links = (Link("host-a", "host-b", 0.001, link),)
    entries = more.get("entries", ())
    return Stack(
        ".", "s", "", (), hosts, links, tuple(instances), (), (), entries, {},
        kernel=more.get("kernel", {}),
    )  # fmt: skip


def own(node: str, text: str = GOOD) -> str:
    """The text as it stands on one of two nodes, with nothing to complain about."""
    text = text.replace("127.0.0.2", "10.0.0.12" if node == "a" else "10.0.0.11")
    text = text.replace("127.0.0.1\n", "10.0.0.11\n" if node == "a" else "10.0.0.12\n")
    if node == "b":
        text = text.replace("priority 101", "priority 100").replace("MASTER", "BACKUP")
    return text


def messages(made_stack: Stack) -> list[str]:
    return [f"{f.code} {f.message}" for f in lint(made_stack)]


def test_lint_has_nothing_to_say_about_a_good_pair() -> None:
    assert messages(stack()) == []


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"b": own("b").replace("priority 100", "priority 101")}, "HA242 (VI_1) two nodes have"),
        ({"b": own("b").replace("vrrp_version 3", "vrrp_version 2")}, "HA176 (VI_1) version 2"),
        (
            {"a": own("a", SECRET), "b": own("b", SECRET).replace("s3cret", "other")},
            "HA176 (VI_1) authentication differs",
        ),
        ({"b": own("b").replace("127.0.0.10/", "127.0.0.11/")}, "HA176 (VI_1) the nodes list"),
        ({"b": own("b").replace("10.0.0.11 }", "10.0.0.99 }")}, "no host of this stack has"),
        ({"b": own("b").replace("id 51", "id 52")}, "has one node: nobody takes over"),
        ({"b": own("b").replace("    state BACKUP", "    nopreempt")}, "takes the address back"),
        ({n: own(n).replace("vrrp_garp_master_refresh 60", "") for n in "ab"}, "healed partition"),
        ({"network_mode": "bridge"}, "is not on the host's network"),
        ({"sees_host": False}, "cannot see: it fails"),
        ({"ports": (Port("127.0.0.10", 80, 80),)}, "HA177 'lb-a' cannot take 127.0.0.10:80"),
        ({"entries": (Entry("users", "vip", "10.9.9.9"),)}, "HA248 no keepalived of this stack"),
    ],
)
def test_lint(settings_, text: str) -> None:
    assert [m for m in messages(stack(**settings_)) if text in m]


def test_multicast_over_a_routed_link() -> None:
    silent = {n: own(n).split("    unicast_src")[0] + "    virtual_ipaddress {\n 10.0.0.9\n }\n}"
              for n in "ab"}  # fmt: skip
    assert any("HA246" in m and "multicast" in m for m in messages(stack(**silent, link="routed")))
    assert not any("multicast" in m for m in messages(stack(**silent)))


def test_a_standby_may_bind_with_the_sysctl() -> None:
    port = (Port("127.0.0.10", 80, 80),)
    allowed = stack(ports=port, kernel={"net.ipv4.ip_nonlocal_bind": 1.0})
    assert messages(allowed) == []
