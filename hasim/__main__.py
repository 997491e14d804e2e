"""`hasim` and `python -m hasim`."""

import os
import sys

INTERRUPTED = 105  # errors.Exit.INTERRUPTED; an interrupt may come before hasim.errors is there


def main() -> None:
    """Run the command line; never returns."""
    try:
        from hasim.cli import app

        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets its report too
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave()
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _leave()


def _leave() -> None:
    """End at once: the workers are gone, and concurrent.futures' exit hook would trip over them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
