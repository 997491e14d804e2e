"""Real daemons on loopback from exported files: started, asked, and ended whatever happens.

The addresses 10.0.0.x of the models become 127.A.B.x, with A and B of this process, so that test
runs do not meet; what a daemon would bind on every address, it binds on its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hasim.export.validators_jobs import program, search_path

# PostgreSQL refuses root; a Python below root's own folder can still be read.
AS_POSTGRES = [
    "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--",
]  # fmt: skip
NET = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"


def at(last: int) -> str:
    """The loopback address for 10.0.0.<last>."""
    return f"{NET}.{last}"


def needs(*names: str) -> None:
    """Skip the test where a program is not installed."""
    missing = [n for n in names if program(n) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def moved(text: str, own: str) -> str:
    """The text with its addresses on loopback; what listens everywhere listens on `own`.

    Whoever dials a loopback address comes from 127.0.0.1: rules for the net must hold for that.
    """
    text = text.replace("10.0.0.0/24", "127.0.0.0/8")
    return text.replace("10.0.0.", f"{NET}.").replace("0.0.0.0", own)


class Bench:
    """A folder and the processes that run in it. Everything ends with the test."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hasim-daemons-"))
        self.started: list[subprocess.Popen[bytes]] = []
        self.prefix: list[str] = []
        if os.geteuid() == 0 and any(u.pw_name == "postgres" for u in pwd.getpwall()):
            self.prefix = AS_POSTGRES
        self._own(self.folder)

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """A file of the folder that the daemons may rewrite."""
        file = self.folder / path
        for folder in reversed([p for p in file.parents if not p.exists()]):
            self.mkdir(folder)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        self._own(file)
        return file

    def mkdir(self, path: Path | str) -> Path:
        """A folder that belongs to the daemons' user."""
        folder = self.folder / path
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._own(folder)
        return folder

    def _own(self, path: Path) -> None:
        if self.prefix:
            shutil.chown(path, "postgres", "postgres")

    def start(self, words: Sequence[str], log: str, env: dict[str, str] | None = None) -> int:
        """Start a daemon; its process number."""
        with (self.folder / log).open("wb") as out:
            made = subprocess.Popen(
                [*self.prefix, program(words[0]) or words[0], *words[1:]],
                cwd=self.folder,
                env={"PATH": search_path(), "HOME": str(self.folder), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(made)
        return made.pid

    def call(self, words: Sequence[str], env: dict[str, str] | None = None) -> str:
        """What a command says; it must succeed."""
        done = subprocess.run(
            [*self.prefix, program(words[0]) or words[0], *words[1:]],
            cwd=self.folder,
            env={"PATH": search_path(), "HOME": str(self.folder), "LC_ALL": "C", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """The end of every log, for the message of a failed test."""
        parts = (
            f"== {p.name}\n{p.read_text(errors='replace')[-1500:]}"
            for p in self.folder.glob("*.log")
        )
        return "\n".join(parts)

    def wait(self, what: str, holds: Callable[[], Any], limit_s: float = 30.0) -> Any:
        """The first true answer; the test fails with the logs if there is none in time."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with suppress(OSError, AssertionError):
                if answer := holds():
                    return answer
            time.sleep(0.05)
        pytest.fail(f"{what} did not happen within {limit_s:g} s\n{self.logs()}")

    def end(self) -> None:
        """End every process that was started, with its children, and remove the folder."""
        end = time.monotonic() + 3
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for one in reversed(self.started):
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, sign)
            for one in reversed(self.started):
                with suppress(subprocess.TimeoutExpired):
                    one.wait(timeout=max(0.1, end - time.monotonic()))
        for file in self.folder.glob("*/postmaster.pid"):  # what Patroni started and left behind
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def redis(address: str, port: int, *words: str, password: str = "") -> str:
    """One command to a Redis or a Sentinel; its raw answer."""
    with socket.create_connection((address, port), timeout=2) as line:
        line.settimeout(2)
        if password:
            line.sendall(f"AUTH {password}\r\n".encode())
            assert line.recv(200).startswith(b"+OK")
        line.sendall((" ".join(words) + "\r\n").encode())
        return line.recv(65536).decode()


class Stub(BaseHTTPRequestHandler):
    """Answers 200 to everything with its own name."""

    def do_GET(self) -> None:
        self.send_response(200)
        name = str(self.server.server_address[0]).encode()
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(address: str, port: int) -> ThreadingHTTPServer:
    """A stub server; `.shutdown()` and `.server_close()` end it."""
    made = ThreadingHTTPServer((address, port), Stub)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made
