"""The program ``gfocal``, and ``python -m gfocal``, as ``accelerate launch -m gfocal`` needs it."""

import sys


def run() -> int:
    """The command line; returns the exit code. Ctrl-C while it is imported ends in one line, too."""
    try:
        from gfocal.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(run())
