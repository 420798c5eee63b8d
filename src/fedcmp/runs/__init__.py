"""A run's folder: its place, checkpoints and records."""
