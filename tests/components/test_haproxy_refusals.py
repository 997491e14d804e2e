"""Which files HAProxy takes: hasim and `haproxy -c` must agree on every one of these."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hasim.components.haproxy.config import build
from hasim.read.haproxy import read

GUIDE = (Path(__file__).parents[1] / "read" / "haproxy-guide.cfg").read_text()
HEAD = (
    "defaults\n mode http\n timeout connect 1s\n timeout client 2s\n timeout server 3s\n"
    "frontend f\n bind :80\n default_backend b\n"
)
BACK = HEAD + "backend b\n"
ONE = BACK + " server s 127.0.0.1:1 check\n"


GOOD = {
    "guide": GUIDE.replace("l09-api-gateway-", "127.0.0.").replace("platform-ui-", "127.0.1."),
    "one": ONE,
    "crlf": ONE.replace("\n", "\r\n"),
    "comment and quotes": ONE + ' http-request set-header X "a b" # \'x\n',
    "variable with default": ONE + ' timeout queue "${NOPE-5s}"\n',
    "named defaults": "defaults a\n retries 1\ndefaults b from a\n" + ONE,
    "template": BACK + " server-template s 1-3 127.0.0.1:80 check\n",
    "default-server": BACK + " default-server inter 1s check\n server s 127.0.0.1:1\n",
    "no such number": ONE + " retries many\n",
    "negative retries": ONE + " retries -1\n",
    "zero timeout": ONE + " timeout server 0\n",
    "weight 0": BACK + " server s 127.0.0.1:1 weight 0\n",
    "empty balance": ONE + " balance\n",
    "tcp to http": ONE.replace(" bind", " mode tcp\n bind"),
    "frontend named as backend": ONE + "frontend b\n bind :81\n default_backend b\n",
    "disabled frontend": ONE + "frontend g\n disabled\n mode http\n default_backend zz\n",
    "if 0": ONE + ".if 0\n nonsense\n.endif\n",
    "ports": ONE.replace(":80\n", ":80,:81-83 name x\n"),
    "check steps": ONE + " option httpchk\n http-check connect port 1\n http-check send uri /\n",
    "observe": BACK + " server s 127.0.0.1:1 check observe layer7 on-error mark-down\n",
    "wrong place": ONE + " timeout client 1s\n maxconn 5\n",
    "socket": BACK + " server s /run/x check\n",
    "resolvers": ONE + "resolvers r\n nameserver n 127.0.0.1:53\n hold nx 1s\n",
    "default resolvers": BACK + " server s 127.0.0.1:1 resolvers default\n",
    "only a socket": "global\n stats socket /run/x.sock\ndefaults\n mode http\n",
    "init-addr": BACK + " server s 127.0.0.1:1 init-addr last,,none\n",
    "backend then listen": ONE + "listen b\n bind :82\n",
    "tls": BACK + " server s 127.0.0.1:1 ssl verify none check\n",
}
BAD = {
    "empty": "",
    "comment": "# x\n",
    "no line feed": ONE + " retries 3",
    "quote": ONE + ' http-request set-header X "abc\n',
    "hex": ONE + " http-request set-header X \\xZZ\n",
    "brace": ONE + ' timeout queue "${NOPE"\n',
    "unset variable": ONE + ' timeout queue "$NOPE"\n',
    "variable outside quotes": ONE + " timeout queue ${NOPE-5s}\n",
    "too many words": ONE + " http-request set-header X " + "a " * 70 + "\n",
    "before a section": " retries 3\n" + ONE,
    "unknown keyword": ONE + " blance roundrobin\n",
    "unknown section": ONE + "fronted x\n bind :1\n",
    "unknown option": ONE + " option redispach\n",
    "unknown server option": BACK + " server s 127.0.0.1:1 chek\n",
    "unknown bind option": ONE.replace(":80\n", ":80 nonsense\n"),
    "unknown global": "global\n foo 1\n" + ONE,
    "no backend": HEAD,
    "no such route": ONE.replace(" default", " use_backend zz if { path_beg /x }\n default"),
    "no such acl": ONE.replace(" default", " use_backend b if zz\n default"),
    "two backends": ONE + "backend b\n",
    "two servers": ONE + " server s 127.0.0.1:2\n",
    "no defaults": ONE + "backend c from zz\n",
    "two defaults": "defaults a\ndefaults a\n" + ONE + "backend c from a\n",
    "no listener": "defaults\n mode http\nbackend b\n",
    "bad timeout": ONE + " timeout queue 1x\n",
    "fraction": BACK + " server s 127.0.0.1:1 check inter 1.5s\n",
    "overflow": ONE + " timeout queue 3000000s\n",
    "timeout without value": ONE + " timeout queue\n",
    "extra word": ONE + " retries 3 4\n",
    "inter 0": BACK + " server s 127.0.0.1:1 check inter 0\n",
    "fall 0": BACK + " server s 127.0.0.1:1 check fall 0\n",
    "weight 257": BACK + " server s 127.0.0.1:1 weight 257\n",
    "no port": BACK + " server s 127.0.0.1 check\n",
    "port 99999": BACK + " server s 127.0.0.1:99999\n",
    "no address": BACK + " server s\n",
    "resolvers": BACK + " server s 127.0.0.1:1 resolvers zz\n",
    "hold": ONE + "resolvers r\n hold foo 1s\n",
    "init-addr": BACK + " server s 127.0.0.1:1 init-addr foo\n",
    "balance": ONE + " balance foo\n",
    "mode": ONE + " mode foo\n",
    "retry-on": ONE + " retry-on foo\n",
    "retry-on none and more": ONE + " retry-on none 503\n",
    "http-reuse": ONE + " http-reuse foo\n",
    "http to tcp": ONE + " mode tcp\n",
    "no option httpchk": ONE + " no option httpchk\n",
    "no retries": ONE + " no retries\n",
    "server in defaults": "defaults\n server s 127.0.0.1:1\n" + ONE,
    "expect": ONE + " option httpchk\n http-check expect status x\n",
    "check order": ONE + " option httpchk\n http-check send uri /\n http-check connect port 1\n",
    "spread": "global\n spread-checks 60\n" + ONE,
    "if": ONE + ".if 1\n",
    "endif": ONE + ".endif\n",
    "condition": ONE + ".if foo\n.endif\n",
    "bind without port": ONE.replace(" :80", " foo"),
    "address after name": ONE.replace("frontend f", "frontend f :80"),
    "tls": BACK + " server s 127.0.0.1:1 ssl\n",
    "byte order mark": "\ufeff" + ONE,
}


def refused(text):
    """Whether hasim says that HAProxy would not start. Unknown words are only a warning of ours
    (they may be newer than our tables), yet any HAProxy that does not know them stops."""
    tree, said = read(text)
    return [
        f for f in said + build(tree)[1] if f.severity == "error" or f.code in ("HA122", "HA123")
    ]


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_accepted(name):
    assert refused(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name):
    assert refused(BAD[name])


HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.parametrize(
    ("text", "good"),
    [pytest.param(t, True, id=f"good-{n}") for n, t in GOOD.items()]
    + [pytest.param(t, False, id=f"bad-{n}") for n, t in BAD.items()],
)
def test_haproxy_agrees(text, good, tmp_path):
    path = tmp_path / "haproxy.cfg"
    path.write_bytes(text.encode())
    done = subprocess.run([HAPROXY, "-c", "-f", path], capture_output=True, env={}, check=False)
    assert (done.returncode == 0) == good, done.stderr.decode()
