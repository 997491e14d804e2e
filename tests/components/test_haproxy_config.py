"""haproxy.cfg in the model: values, their origins, the daemon's defaults, and what is refused."""

from pathlib import Path

import pytest

from hasim.components.haproxy.config import build
from hasim.model import INF
from hasim.read.haproxy import read
from hasim.source import Default, Span

GUIDE = (Path(__file__).parents[1] / "read" / "haproxy-guide.cfg").read_text()
HEAD = (
    "defaults\n mode http\n timeout connect 1s\n timeout client 2s\n timeout server 3s\n"
    "frontend f\n bind :80\n default_backend b\n"
)
BACK = HEAD + "backend b\n"
ONE = BACK + " server s 127.0.0.1:1 check\n"


def load(text, version=(2, 8, 0), **env):
    tree, said = read(text, env=env)
    balancer, found, knobs = build(tree, version)
    return balancer, said + found, {k.name: k for k in knobs}


def backend(text, version=(2, 8, 0)):
    """The backend `b` of HEAD plus these lines; the file must be free of errors."""
    balancer, findings, _ = load(BACK + text, version)
    assert [str(f) for f in findings if f.severity == "error"] == []
    return next(b for b in balancer.backends if b.name == "b")


def codes(text):
    return [(f.severity, f.code) for f in load(text)[1]]


def test_guide():
    balancer, findings, _ = load(GUIDE)
    assert findings == []
    assert balancer.maxconn == 4096
    assert [(f.name, f.binds, f.default_backend, f.stats) for f in balancer.frontends] == [
        ("http-in", (("*", 8009),), "l09-api-gateway", False),
        ("ui-in", (("*", 3000),), "platform-ui", False),
        ("stats", (("*", 8404),), "stats", True),
    ]
    back = balancer.backends[0]
    assert (back.mode, back.balance, back.retries, back.redispatch) == (
        "http",
        "roundrobin",
        3,
        False,
    )
    assert (back.timeout_connect_s, back.timeout_server_s, back.timeout_queue_s) == (5, 50, 5)
    assert back.retry_on == ("conn-failure",)
    assert str(back.where["timeout_connect_s"]) == "haproxy.cfg:11:21"
    assert isinstance(back.where["retries"], Default)
    assert balancer.frontends[0].timeout_http_keep_alive_s == 50
    server = back.servers[0]
    assert (server.name, server.address, server.port) == ("l09-1", "l09-api-gateway-1", 8009)
    assert (server.instance, server.reach, server.init_addr) == ("", "none", ("last", "libc"))
    check = server.check
    assert (check.kind, check.method, check.url) == ("http", "GET", "/health/live")
    assert check.expect_status == (200,)
    assert (check.inter_s, check.fastinter_s, check.downinter_s) == (2, 2, 2)
    assert (check.rise, check.fall, check.timeout_check_s, check.timeout_connect_s) == (
        2,
        3,
        None,
        5,
    )
    assert str(check.where["fall"]) == "haproxy.cfg:27:70"
    assert isinstance(check.where["fastinter_s"], Default)


def test_every_field_read_from_a_file_points_at_its_own_text():
    balancer, _, _ = load(GUIDE)
    for part in (
        balancer,
        *balancer.frontends,
        *balancer.backends,
        balancer.backends[0].servers[0],
    ):
        for name, origin in part.where.items():
            assert isinstance(origin, Span | Default), name
            if isinstance(origin, Span):
                text = GUIDE[origin.start : origin.end]
                assert text == text.strip(), name
                assert text, name


def test_defaults_of_the_daemon():
    server = backend(" server s h:1 check\n").servers[0]
    check = server.check
    assert (check.kind, check.inter_s, check.rise, check.fall) == ("tcp", 2.0, 2, 3)
    assert (server.weight, server.maxconn, server.error_limit) == (1, 0, 10)
    assert (server.on_error, server.observe, server.on_marked_down) == ("fail-check", "", "")
    back = backend("")
    assert (back.http_reuse, back.connection_mode, back.allbackups) == ("safe", "keep-alive", False)
    assert (back.timeout_queue_s, back.timeout_tunnel_s) == (1.0, INF)


def test_timeouts_fall_back():
    text = HEAD + "backend b\n"
    front = load(text)[0].frontends[0]
    assert (front.timeout_http_request_s, front.timeout_http_keep_alive_s) == (2, 2)
    front = load(text.replace("default_b", "timeout http-request 1s\n default_b"))[0].frontends[0]
    assert (front.timeout_http_request_s, front.timeout_http_keep_alive_s) == (1, 1)
    assert backend(" timeout server 0\n").timeout_server_s == INF
    assert backend(" timeout queue 9s\n").timeout_queue_s == 9


def test_the_version_decides_some_defaults():
    assert backend("", (3, 2, 0)).balance == "roundrobin"
    assert backend("", (3, 3, 0)).balance == "random"
    assert not backend("", (3, 2, 9)).abortonclose
    assert backend("", (3, 3, 0)).abortonclose
    assert not backend(" no option abortonclose\n", (3, 3, 0)).abortonclose


def test_fixed_settings():
    back = backend(
        " balance leastconn\n option redispatch 1\n retries 2\n timeout check 500ms\n"
        " retry-on conn-failure empty-response 503\n http-reuse never\n fullconn 50\n"
        " option allbackups\n option persist\n option log-health-checks\n option httpclose\n"
        " load-server-state-from-file global\n timeout tunnel 1h\n"
        " server s h:1 check port 81 addr 10.0.0.9 weight 20 backup maxconn 7 minconn 2 maxqueue 9"
        " slowstart 10s observe layer4 error-limit 5 on-error mark-down"
        " on-marked-down shutdown-sessions on-marked-up shutdown-backup-sessions"
        " resolve-prefer ipv4 init-addr last,libc,none fastinter 500 downinter 3s disabled\n"
    )
    assert (back.balance, back.redispatch, back.redispatch_interval) == ("leastconn", True, 1)
    assert (back.retries, back.retry_on) == (2, ("conn-failure", "empty-response", "503"))
    assert (back.http_reuse, back.fullconn, back.timeout_tunnel_s) == ("never", 50, 3600)
    assert (back.allbackups, back.persist, back.log_health_checks) == (True, True, True)
    assert (back.connection_mode, back.state_from_file) == ("close", "global")
    server = back.servers[0]
    assert (server.weight, server.backup, server.disabled) == (20, True, True)
    assert (server.maxconn, server.minconn, server.maxqueue, server.slowstart_s) == (7, 2, 9, 10)
    assert (server.observe, server.error_limit, server.on_error) == ("layer4", 5, "mark-down")
    assert server.on_marked_down == "shutdown-sessions"
    assert server.on_marked_up == "shutdown-backup-sessions"
    assert (server.resolve_prefer, server.init_addr) == ("ipv4", ("last", "libc", "none"))
    check = server.check
    assert (check.port, check.addr, check.timeout_check_s) == (81, "10.0.0.9", 0.5)
    assert (check.inter_s, check.fastinter_s, check.downinter_s) == (2, 0.5, 3)


def test_options_are_negated_and_the_last_one_wins():
    assert not backend(" option redispatch\n no option redispatch\n").redispatch
    assert backend(" no option redispatch\n option redispatch\n").redispatch_interval == -1
    text = HEAD.replace("frontend", " option redispatch\n retries 9\nfrontend")
    balancer, _, _ = load(text + "backend b\n no option redispatch\nbackend c\n retries 1\n")
    assert [(b.redispatch, b.retries) for b in balancer.backends] == [(False, 9), (True, 1)]


def test_redispatch_interval():
    assert backend(" option redispatch 3\n").redispatch_interval == 3
    assert not backend(" option redispatch 0\n").redispatch


def test_words_newer_than_the_stack():
    text = BACK + " server s h:1 check init-state down\n"
    assert "HA133" in [f.code for f in load(text, (3, 0, 0))[1]]
    assert "HA133" not in [f.code for f in load(text, (3, 1, 0))[1]]


def test_many_problems_are_cut_off_with_a_count():
    _, findings, _ = load(BACK + "".join(f" server s{i} h:1 weight 999\n" for i in range(900)))
    assert len(findings) == 201
    assert "700 more" in findings[-1].message


def test_default_server_lines_merge_in_order():
    head = HEAD.replace("frontend", " default-server inter 1s fall 5 check\nfrontend")
    balancer, _, _ = load(
        head + "backend b\n default-server fall 4\n server s h:1\n default-server rise 9\n"
        " server t h:2 fall 2\n server u h:3 no-check\n"
    )
    first, second, third = balancer.backends[0].servers
    assert (first.check.inter_s, first.check.fall, first.check.rise) == (1, 4, 2)
    assert (second.check.inter_s, second.check.fall, second.check.rise) == (1, 2, 9)
    assert third.check is None
    assert first.check.where["inter_s"].line == 6
    assert first.check.where["fall"].line == 11


def test_server_template():
    found = backend(" server-template s 2-4 h:80 check\n server-template t 2 h:81\n").servers
    assert [(s.name, s.port) for s in found] == [
        ("s2", 80), ("s3", 80), ("s4", 80), ("t1", 81), ("t2", 81)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "method", "url", "status"),
    [
        (" option httpchk\n", "OPTIONS", "/", ()),
        (" option httpchk /x\n", "OPTIONS", "/x", ()),
        (" option httpchk HEAD /x HTTP/1.1\\r\\nHost:\\ a\n", "HEAD", "/x", ()),
        (
            " option httpchk\n http-check send meth GET uri /y ver HTTP/1.1 hdr Host uri\n",
            "GET",
            "/y",
            (),
        ),
        (
            " option httpchk GET /\n http-check expect status 200-202,204\n",
            "GET",
            "/",
            (200, 201, 202, 204),
        ),
        (" option tcp-check\n option httpchk GET /z\n", "GET", "/z", ()),
    ],
)
def test_http_checks(lines, method, url, status):
    check = backend(lines + " server s h:1 check\n").servers[0].check
    assert (check.kind, check.method, check.url, check.expect_status) == (
        "http", method, url, status
    )  # fmt: skip


def test_more_about_checks():
    lines = " option httpchk\n http-check connect port 99 ssl\n http-check expect ! status 500\n"
    lines = lines.replace("http-check expect", "http-check send meth GET\n http-check expect")
    check = backend(lines + " server s h:1 check\n").servers[0].check
    assert (check.port, check.tls) == (99, True)
    assert 500 not in check.expect_status
    assert 503 in check.expect_status
    other = backend(" option httpchk\n option tcp-check\n server s h:1 check\n").servers[0].check
    assert other.kind == "tcp"
    assert backend(" option httpchk\n http-check disable-on-404\n").disable_on_404
    own = HEAD.replace("frontend", " option httpchk\n http-check expect status 201\nfrontend")
    text = own + "backend b\n http-check expect status 202\n server s h:1 check\n"
    assert load(text)[0].backends[0].servers[0].check.expect_status == (202,)


@pytest.mark.parametrize(
    "lines",
    [
        " option mysql-check\n",
        " balance uri\n",
        " option httpchk\n http-check expect string ok\n",
    ],
)
def test_approximations_are_said(lines):
    assert ("warning", "HA131") in codes(BACK + lines + " server s h:1 check\n")


@pytest.mark.parametrize(
    "lines",
    [" cookie X\n", " server s h:1 agent-check agent-port 9\n", " server s h:1 track b/t\n"],
)
def test_what_is_not_simulated_is_said(lines):
    assert ("warning", "HA130") in codes(BACK + lines)


def test_routes():
    front = HEAD.replace(
        " default_backend",
        " acl api path_beg /api /v2\n acl api path_beg -i /v3\n acl host hdr(host) -i A.example\n"
        " use_backend c if api or host\n use_backend d if { path /x }\n"
        " use_backend e if api host\n use_backend e unless api\n use_backend e if { src 10.1 }\n"
        " use_backend e if !api\n use_backend c if TRUE\n default_backend",
    )
    balancer, findings, _ = load(front + "backend b\nbackend c\nbackend d\nbackend e\n")
    assert balancer.frontends[0].routes == (
        ("/api", "c"),
        ("/v2", "c"),
        ("/v3", "c"),
        ("host:a.example", "c"),
        ("=/x", "d"),
        ("", "c"),
    )
    assert [f.code for f in findings] == ["HA130"] * 4
    assert all(f.severity == "warning" for f in findings)


def test_resolvers():
    text = (
        BACK + " server s app:1 check resolvers dns\n"
        "resolvers dns\n nameserver a 127.0.0.11:53\n hold nx 5s\n hold obsolete 1s\n"
        " timeout retry 500ms\n timeout resolve 2s\n resolve_retries 5\n parse-resolv-conf\n"
    )
    balancer, findings, _ = load(text)
    (found,) = balancer.resolvers
    assert findings == []
    assert found.nameservers == ("127.0.0.11:53",)
    assert (found.hold_nx_s, found.hold_obsolete_s, found.hold_timeout_s) == (5, 1, 30)
    assert (found.timeout_retry_s, found.timeout_resolve_s, found.resolve_retries) == (0.5, 2, 5)
    assert isinstance(found.where["hold_nx_s"], Span)
    assert isinstance(found.where["hold_timeout_s"], Default)
    assert balancer.backends[0].servers[0].resolvers == "dns"


def test_global_values():
    text = "global\n maxconn 50\n spread-checks 10\n max-spread-checks 1s\n hard-stop-after 30s\n"
    balancer, _, _ = load(text + ONE)
    assert (balancer.maxconn, balancer.max_spread_checks_s, balancer.hard_stop_after_s) == (
        50,
        1,
        30,
    )
    assert balancer.backends[0].servers[0].check.spread_checks == 0.1
    assert balancer.frontends[0].maxconn == 50
    assert isinstance(balancer.where["max_spread_checks_s"], Span)
    assert load(ONE)[0].hard_stop_after_s == INF


def test_missing_timeouts_are_said():
    text = "frontend f\n bind :1\n default_backend b\nbackend b\n server s h:1\n"
    assert codes(text) == [("warning", "HA132"), ("warning", "HA132")]


def test_names_are_checked_with_a_hint():
    _, findings, _ = load(
        HEAD.replace("default_backend b", "default_backend gatway") + ONE[len(HEAD) :]
    )
    assert [f.code for f in findings] == ["HA126"]
    _, findings, _ = load(HEAD + "backend gateway\n server s h:1 resolvers dsn\nresolvers dns\n")
    assert [f.hint for f in findings if "resolvers" in f.message] == ["did you mean 'dns'?"]
