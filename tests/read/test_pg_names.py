"""Names of server parameters: one that no server knows ends its start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hasim.components.postgres.config import check_values, from_parameters
from hasim.read.pg_names import KNOWN
from hasim.source import Span

HERE = Span("pg.conf", 1, 18)


def test_an_unknown_name_is_found_and_what_was_meant() -> None:
    names = ("max_conections", "pg_stat_statements.max", "io_method", "max_connections")
    [finding] = check_values(from_parameters(dict.fromkeys(names, ("5", HERE))))
    assert finding.message == 'unrecognized configuration parameter "max_conections"'
    assert finding.span == HERE
    assert finding.hint == "did you mean 'max_connections'?"


@pytest.fixture(scope="module")
def server() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL here")
    return found[-1]


def test_the_names_are_the_server_s_own(server: Path) -> None:
    told = subprocess.run([server, "--describe-config"], capture_output=True, text=True)
    names = {line.split("\t")[0].lower() for line in told.stdout.splitlines()}
    assert len(names) > 250
    assert names <= KNOWN


def test_the_server_refuses_what_we_do_not_know(server: Path) -> None:
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may not start PostgreSQL")
    words = ["setpriv", "--reuid=postgres"] if os.getuid() == 0 else []
    words += [str(server), "-D", "/tmp", "-C", "port", "-c", "max_conections=5"]
    told = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert told.returncode != 0
    assert 'FATAL:  unrecognized configuration parameter "max_conections"' in told.stderr
