"""Pictures of mixtures; they need the extra `plot` (Matplotlib)."""
