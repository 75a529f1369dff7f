"""The parts of detection over many files: which files, read ahead, a journal, shards, results."""
