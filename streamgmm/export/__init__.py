"""Models that leave the process: files that load safely years later."""
