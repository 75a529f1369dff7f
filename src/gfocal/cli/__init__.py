"""The command line, one file a command: ``add`` declares its options, ``run`` does it."""

DONE, SOME_FAILED, MISTAKE = 0, 1, 2  # exit codes
