"""The version: a module of its own, so that whatever needs it imports nothing else."""

__version__ = "0.2.0"
