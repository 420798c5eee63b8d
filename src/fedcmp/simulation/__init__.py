"""Runs in one process tree: pairs prepared once, clients trained in parallel workers, every round resumable."""
