"""The commands of the command line, one file each: ``add`` declares its options, ``run`` does it."""

DONE, SOME_FAILED = 0, 1  # exit codes, beside cli.MISTAKE
