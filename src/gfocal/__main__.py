"""The program ``gfocal``, and ``python -m gfocal``, as ``accelerate launch -m gfocal`` needs it."""

import gc
import sys


def run() -> int:
    """The command line; returns the exit code. Ctrl-C while it is imported ends in one line, too."""
    try:
        from gfocal.cli.main import main

        return main()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    finally:
        # At exit Python would look for cycles among all objects, a third of a second after an import of torch.
        gc.freeze()


if __name__ == "__main__":
    sys.exit(run())
