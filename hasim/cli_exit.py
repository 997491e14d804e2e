"""How a command ends: every error becomes an exit code and a message, never a traceback but for
bugs of ours.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer

from hasim.errors import Exit, Finding, HasimError, InputError, SimulationBug


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command; turn what it raises into messages on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _ends_on_signals():
                command(*args, **kwargs)
                sys.stdout.flush()
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(Exit.INTERRUPTED) from None
        except InputError as error:
            for finding in dict.fromkeys(error.findings):
                say(str(finding))
            raise typer.Exit(Exit.INPUT) from None
        except SimulationBug as error:
            _bug(error)
        except HasimError as error:
            say(f"hasim: {error}")
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            # the reader has gone (`| head`): Python must not try to flush at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.OK) from None
        except OSError as error:
            _cannot(error)
        except (typer.Exit, typer.BadParameter):
            raise
        except Exception as error:
            _bug(error)

    return run


def say(text: str) -> None:
    """One message on stderr; a closed stderr is no reason to fail."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def usage(text: str) -> NoReturn:
    """Wrong flags: exit 2."""
    raise typer.BadParameter(text)


_stopped = threading.Event()


def check_stopped() -> None:
    """Raise KeyboardInterrupt if a signal wanted it and the exception was lost on its way."""
    if _stopped.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def _ends_on_signals() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does."""
    stops = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        _stopped.set()
        raise KeyboardInterrupt

    def lost(what: sys.UnraisableHookArgs) -> None:
        # raised inside a destructor, it goes no further: `check_stopped` raises it again
        if not issubclass(what.exc_type, KeyboardInterrupt):
            told(what)

    _stopped.clear()
    told, sys.unraisablehook = sys.unraisablehook, lost
    before = {number: signal.getsignal(number) for number in stops}
    for number in stops:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number in stops:
            signal.signal(number, before[number])
        sys.unraisablehook = told


def _cannot(error: OSError) -> NoReturn:
    """A file that cannot be read or written."""
    text = (
        f"cannot use '{_relative(error.filename)}': {error.strerror}" if error.filename else error
    )
    say(str(Finding("error", "HA104", str(text))))
    raise typer.Exit(Exit.INPUT) from None


def _relative(path: Any) -> str:
    """A path as seen from the working directory, nothing of the machine above it."""
    text = os.fspath(path)
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    if not os.path.isabs(text):
        return text
    here = os.getcwd()
    return os.path.relpath(text, here) if text.startswith(here + os.sep) else os.path.basename(text)


def _bug(error: Exception) -> NoReturn:
    """One of our own assertions failed, or worse. Notes of the error say how to see it again."""
    import traceback

    traceback.print_exception(error)
    say("this is a bug of hasim; please report it with the lines above")
    raise typer.Exit(Exit.BUG) from None
