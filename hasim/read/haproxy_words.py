"""The words of haproxy.cfg: where each may stand, and whether the simulation uses it.

Sources: HAProxy manual 3, 4.1 (keyword matrix), 5.1, 5.2, 5.3.2 and the keyword dump
`haproxy -dKcfg` of 2.6.12; words up to 3.3 added from the release notes. What happens to a word in
the wrong section was tried on 2.6.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


def words(text: str) -> tuple[str, ...]:
    """A table written as text."""
    return tuple(text.split())


SIMULATED, QUIET, MATTERS = "simulated", "quiet", "matters"

PROXIES = ("defaults", "frontend", "listen", "backend")
# Sections that must carry a name ("'backend' expects an <id> argument").
NAMED = frozenset(
    words(
        "frontend listen backend peers resolvers mailers userlist program http-errors ring "
        "log-forward cache fcgi-app log-profile"
    )
)
SECTIONS = NAMED | {"global", "defaults", "namespace_list", "crt-store", "acme", "traces"}


@dataclass(frozen=True, slots=True)
class Keyword:
    """places: letters of the proxy sections that may hold it (D F L B, see PROXIES)."""

    name: str
    places: str
    status: str


def _rows(*rows: tuple[str, str, str]) -> dict[str, Keyword]:
    out = {}
    for places, status, names in rows:
        for name in names.split():
            name = name.replace("+", " ")
            out[name] = Keyword(name, places, status)
    return out


PROXY = _rows(
    ("DFLB", SIMULATED, "mode disabled enabled acl timeout+http-request timeout+http-keep-alive"),
    ("DFL", SIMULATED, "maxconn default_backend timeout+client"),
    ("FL", SIMULATED, "bind use_backend"),
    ("LB", SIMULATED, "server server-template"),
    (
        "DLB",
        SIMULATED,
        "balance default-server retries retry-on http-reuse fullconn timeout+connect timeout+server"
        " timeout+queue timeout+check timeout+tunnel http-check+expect http-check+send"
        " http-check+connect http-check+disable-on-404 load-server-state-from-file",
    ),
    (
        "DFLB",
        QUIET,
        "description id log log-tag log-format log-format-sd error-log-format log-steps errorfile"
        " errorfiles errorloc errorloc302 errorloc303 http-error http-after-response capture"
        " declare unique-id-format unique-id-header email-alert stats bind-process guid"
        " http-send-name-header source compression",
    ),
    ("DFL", QUIET, "monitor-uri clitcpka-cnt clitcpka-idle clitcpka-intvl"),
    (
        "DLB",
        QUIET,
        "server-state-file-name srvtcpka-cnt srvtcpka-idle srvtcpka-intvl http-check+comment"
        " http-check+send-state http-check+set-var http-check+set-var-fmt http-check+unset-var"
        " tcp-check+comment tcp-check+set-var tcp-check+set-var-fmt tcp-check+unset-var"
        " hash-preserve-affinity",
    ),
    ("DFL", MATTERS, "backlog rate-limit timeout+client-fin timeout+client-hs monitor"),
    ("DFLB", QUIET, "timeout+tarpit"),  # `http-request tarpit` itself is said to matter
    ("DFLB", MATTERS, "filter quic-initial force-be-switch"),
    ("DFLB", MATTERS, "http-request http-response tcp-request tcp-response"),
    ("FLB", MATTERS, "redirect stick-table"),
    (
        "DLB",
        MATTERS,
        "cookie hash-type hash-balance-factor max-keep-alive-queue persist timeout+server-fin"
        " external-check tcp-check+connect tcp-check+expect tcp-check+send tcp-check+send-lf"
        " tcp-check+send-binary tcp-check+send-binary-lf transparent max-session-srv-conns",
    ),
    ("LB", MATTERS, "dispatch force-persist ignore-persist stick use-fcgi-app use-server"),
)

OPTIONS = _rows(
    ("DFLB", SIMULATED, "http-keep-alive http-server-close httpclose forceclose"),
    (
        "DLB",
        SIMULATED,
        "redispatch httpchk tcp-check allbackups abortonclose persist log-health-checks",
    ),
    (
        "DFL",
        QUIET,
        "httplog httpslog dontlognull dontlog-normal logasap log-separate-errors clitcpka contstats"
        " socket-stats tcp-smart-accept idle-close-on-response http-ignore-probes"
        " accept-invalid-http-request accept-unsafe-violations-in-http-request"
        " http-use-proxy-header disable-h2-upgrade h1-case-adjust-bogus-client",
    ),
    (
        "DFLB",
        QUIET,
        "tcplog forwardfor forwarded originalto tcpka http-no-delay nolinger splice-auto"
        " splice-request splice-response http-restrict-req-hdr-names independent-streams"
        " http-drop-request-trailers http-drop-response-trailers",
    ),
    (
        "DLB",
        QUIET,
        "srvtcpka tcp-smart-connect accept-invalid-http-response http-pretend-keepalive"
        " accept-unsafe-violations-in-http-response h1-case-adjust-bogus-server",
    ),
    ("DFLB", MATTERS, "http-buffer-request"),
    (
        "DLB",
        MATTERS,
        "checkcache prefer-last-server transparent external-check ldap-check mysql-check"
        " pgsql-check redis-check smtpchk spop-check ssl-hello-chk",
    ),
)
# "negation/default is not supported for option" (2.6.12); the rest can be negated.
NOT_NEGATABLE = frozenset(
    words(
        "httplog httpslog tcplog httpchk tcp-check forwardfor originalto ldap-check mysql-check "
        "pgsql-check redis-check smtpchk spop-check ssl-hello-chk external-check"
    )
)
# Options that take arguments; the others "cannot handle unexpected argument".
WITH_ARGUMENTS = frozenset(
    words(
        "httpchk redispatch forwardfor forwarded originalto httplog httpslog tcplog smtpchk "
        "mysql-check pgsql-check http-restrict-req-hdr-names"
    )
)
# `no` before anything else is an error, except for these.
NEGATABLE = frozenset(
    words(
        "option log busy-polling set-dumpable strict-limits insecure-fork-wanted numa-cpu-mapping"
    )
)
# Rules that only write headers, logs or variables change neither route nor time.
QUIET_ACTIONS = words(
    "add-header set-header del-header replace-header replace-value set-var set-var-fmt unset-var "
    "set-log-level capture track-sc sc-inc-gpc sc-set-gpt sc-add-gpc set-tos set-mark set-nice "
    "early-hint add-acl del-acl set-map del-map strict-mode allow set-src set-dst set-fc-mark "
    "set-fc-tos set-bc-mark set-bc-tos do-log cache-store"
)

# The places where HAProxy 2.6.12 refuses a keyword; in other wrong places it warns and ignores it.
REFUSED = {
    "defaults": frozenset(
        words(
            "bind server server-template use_backend use-server stick-table stick id dispatch "
            "redirect force-persist ignore-persist use-fcgi-app"
        )
    ),
    "frontend": frozenset(words("server default-server server-template retry-on")),
    "backend": frozenset(),
    "listen": frozenset(),
}

GLOBAL = _rows(
    ("", SIMULATED, "maxconn spread-checks max-spread-checks hard-stop-after server-state-file"),
    ("", SIMULATED, "server-state-base setenv presetenv unsetenv resetenv"),
    (
        "",
        QUIET,
        "daemon user group uid gid chroot pidfile log log-tag log-send-hostname stats nbthread"
        " nbproc node description ca-base crt-base issuers-chain-path default-path cpu-map cpu-set"
        " cpu-policy quiet zero-warning localpeer master-worker mworker-max-reloads set-dumpable"
        " ulimit-n unix-bind numa-cpu-mapping thread-groups thread-group thread-hard-limit"
        " noepoll nokqueue noevports nopoll nosplice nogetaddrinfo noreuseport busy-polling"
        " insecure-fork-wanted insecure-setuid-wanted external-check strict-limits fd-hard-limit"
        " expose-experimental-directives expose-deprecated-directives profiling.tasks"
        " profiling.memory set-var set-var-fmt no-memory-trimming no-quic no-quicklb maxpipes"
        " maxcomprate maxcompcpuusage maxzlibmem anonkey harden.reject-privileged-ports.tcp"
        " harden.reject-privileged-ports.quic prealloc-fd pp2-never-send-local cluster-secret"
        " limited-quic http-err-codes http-fail-codes stats-file shm-stats-file dns-accept-family"
        " warn-blocked-traffic-after force-cfg-parser-pause key-base 51degrees-data-file"
        " tune.bufsize",
    ),
    (
        "",
        MATTERS,
        "maxconnrate maxsessrate maxsslconn maxsslrate grace close-spread-time"
        " tune.max-checks-per-thread",
    ),
)
GLOBAL_PREFIXES = words(
    "tune. ssl- lua- h1- h2- httpclient. 51degrees- deviceatlas- wurfl- debug. ocsp-update."
)

RESOLVERS = frozenset(
    words("nameserver parse-resolv-conf hold resolve_retries timeout accepted_payload_size")
)
HOLDS = ("valid", "nx", "timeout", "refused", "other", "obsolete")


def _arity(*rows: tuple[int, str, str]) -> dict[str, tuple[int, str]]:
    return {name: (n, status) for n, status, names in rows for name in names.split()}


# option -> (number of arguments, status), for server, default-server and server-template.
SERVER_OPTIONS = _arity(
    (0, SIMULATED, "check no-check backup no-backup disabled enabled ssl no-ssl check-ssl"),
    (0, SIMULATED, "no-check-ssl"),
    (
        1,
        SIMULATED,
        "addr port inter fastinter downinter rise fall weight maxconn maxqueue slowstart"
        " observe error-limit on-error on-marked-down on-marked-up resolvers resolve-prefer"
        " init-addr",
    ),
    (0, MATTERS, "agent-check non-stick"),
    (1, MATTERS, "minconn track pool-max-conn max-reuse init-state"),
    (
        0,
        QUIET,
        "no-agent-check allow-0rtt check-send-proxy no-check-send-proxy check-via-socks4"
        " force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13 no-send-proxy"
        " no-send-proxy-v2 no-send-proxy-v2-ssl no-send-proxy-v2-ssl-cn no-ssl-reuse no-sslv3"
        " no-tfo no-tls-tickets no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 send-proxy send-proxy-v2"
        " send-proxy-v2-ssl send-proxy-v2-ssl-cn ssl-reuse stick tfo tls-tickets"
        " check-reuse-pool no-check-reuse-pool strict-maxconn no-renegotiate renegotiate"
        " no-check-sni-auto check-sni-auto no-sni-auto sni-auto",
    ),
    (
        1,
        QUIET,
        "agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni"
        " ciphers ciphersuites client-sigalgs sigalgs cookie crl-file crt curves id log-proto"
        " namespace npn pool-low-conn pool-purge-delay pool-conn-name idle-ping proto"
        " proxy-v2-options redir resolve-net resolve-opts set-proxy-v2-tlv-fmt(*) sni socks4"
        " source usesrc interface ssl-max-ver ssl-min-ver tcp-ut tcp-md5sig verify verifyhost ws"
        " shard log-bufsize guid hash-key cc check-pool-conn-name renegotiation",
    ),
)
BIND_OPTIONS = _arity(
    (
        0,
        QUIET,
        "accept-proxy allow-0rtt defer-accept force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12"
        " force-tlsv13 generate-certificates no-alpn no-ca-names no-sslv3 no-tls-tickets no-tlsv10"
        " no-tlsv11 no-tlsv12 no-tlsv13 prefer-client-ciphers ssl strict-sni no-strict-sni tfo"
        " transparent v4v6 v6only quic-force-retry tls-tickets default-crt",
    ),
    (
        1,
        QUIET,
        "accept-netscaler-cip alpn ca-file ca-ignore-err ca-sign-file ca-sign-pass ca-verify-file"
        " ciphers ciphersuites client-sigalgs crl-file crt crt-ignore-err crt-list curves ecdhe"
        " expose-fd gid group guid-prefix id idle-ping interface ktls level mode mss name namespace"
        " nbconn nice npn ocsp-update process proto quic-cc-algo quic-socket severity-output shards"
        " sigalgs ssl-max-ver ssl-min-ver tcp-ut tcp-ss thread tls-ticket-keys uid user verify"
        " label cc tcp-md5sig",
    ),
    (1, MATTERS, "maxconn backlog"),
)

STATS = frozenset(
    words(
        "admin auth enable hide-modules hide-version http-request realm refresh scope show-desc "
        "show-legends show-modules show-node uri"
    )
)
BALANCES = frozenset(
    words(  # what the simulator does
        "roundrobin static-rr leastconn first source random"
    )
)
BALANCES_KNOWN = BALANCES | {"uri", "url_param", "rdp-cookie", "hdr", "hash", "log-hash", "sticky"}
RETRY_ON = frozenset(
    words(
        "none conn-failure empty-response junk-response response-timeout 0rtt-rejected "
        "all-retryable-errors 401 403 404 408 421 425 429 500 501 502 503 504"
    )
)


@cache
def vocabulary(kind: str) -> tuple[str, ...]:
    """First words that may open a line of this kind of section, for hints."""
    if kind == "global":
        return tuple(sorted({*GLOBAL, *SECTIONS}))
    if kind == "resolvers":
        return tuple(sorted({*RESOLVERS, *SECTIONS}))
    firsts = {name.split()[0] for name in PROXY} | {"option", "no"}
    return tuple(sorted({*firsts, *SECTIONS}))


# The one condition on replays that is simulated (manual 4.2, "http-request disable-l7-retry").
NO_POST_REPLAY = ("http-request", "disable-l7-retry", "if", "METH_POST")


def lookup(texts: tuple[str, ...]) -> tuple[Keyword | None, str]:
    """(keyword, unknown part) of a proxy line without its `no`; one of the two is empty."""
    first, second = texts[0], (texts[1] if len(texts) > 1 else "")
    if first == "option":
        return OPTIONS.get(second), second
    if first in ("timeout", "http-check", "tcp-check"):
        return PROXY.get(f"{first} {second}"), second
    found = PROXY.get(first)
    if found and found.status == MATTERS and _quiet_rule(first, texts[1:]):
        return Keyword(found.name, found.places, QUIET), ""
    return found, first


def _quiet_rule(first: str, rest: tuple[str, ...]) -> bool:
    """Whether a http-request or tcp-request rule leaves route, time and status alone."""
    if first not in ("http-request", "http-response", "tcp-request", "tcp-response"):
        return False
    action = rest[0] if rest else ""
    if (first, *rest) == NO_POST_REPLAY:
        return True
    if first.startswith("tcp-") and action in ("connection", "session", "content"):
        action = rest[1] if len(rest) > 1 else ""
    return action.split("(")[0].startswith(QUIET_ACTIONS)
