"""The data plane: every request, in one compiled event loop over flat arrays.

compiled  how numba makes one piece of machine code of all helpers
layout    the record arrays and the words (phases, flags, notices)
handle    all arrays behind one pointer
draw      counter-based random numbers and inverse CDFs
calendar  the event queue, FIFO queues and the ready list
cpu       CPU of a container: dedicated timers or processor sharing, quota, short hosts
balance   HAProxy's choice of a server
answer    what a caller does with its answer: statistics, the next move
work      what a service does with a request: workers, steps, pools, nested calls
place     a request's place: on a server, in a queue, and its answer
path      a request on its way to a server: connect, retry, time out
users     clients: iterations, arrivals, probes, the way in
checks    health checks
loop      advance(): the event loop
commands  what the control plane may do to services and users
proxies   what it may do to HAProxy
virtual   what clients of a virtual address lose when it moves
door      the one entry point from Python

Functions call only upwards in this list; work for another slot goes through the ready list, so
there is no recursion. Nothing here allocates.

numba's own cache looks only at the file of the caller, so an edited helper would be served stale:
the cache folder's name hashes every file of this package and the versions of the compilers.
"""

import hashlib
import os
import sys
from importlib.metadata import version
from pathlib import Path


def _cache_folder() -> Path:
    here = Path(__file__).parent
    words = [sys.version, version("numba"), version("llvmlite"), version("numpy")]
    digest = hashlib.sha256("\n".join(words).encode())
    for path in [*sorted(here.glob("*.py")), here.parent / "trace.py"]:
        digest.update(path.read_bytes())
    base = os.environ.get("HASIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "hasim" / f"kernel-{digest.hexdigest()[:16]}"


CACHE_FOLDER = _cache_folder()


def is_compiled() -> bool:
    """Has this very kernel been compiled on this machine before?"""
    return CACHE_FOLDER.is_dir() and any(CACHE_FOLDER.rglob("door.perform*.nbc"))


def _use_cache_folder() -> None:
    from numba import config

    setattr(config, "CACHE_DIR", str(CACHE_FOLDER))  # noqa: B010 (mypy does not know it)


_use_cache_folder()
