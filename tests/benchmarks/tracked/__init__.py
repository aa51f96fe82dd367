"""What asv follows from commit to commit: a kernel, a pass and a whole fit."""
