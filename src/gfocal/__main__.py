"""``python -m gfocal`` is the command line, as ``accelerate launch -m gfocal`` needs it."""

import sys

from gfocal.cli.main import main

sys.exit(main())
