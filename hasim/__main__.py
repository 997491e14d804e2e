"""`hasim` and `python -m hasim`."""

import sys


def main() -> None:
    """Run the command line; never returns."""
    from hasim.cli import app

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 still gets its report
    app()


if __name__ == "__main__":
    main()
