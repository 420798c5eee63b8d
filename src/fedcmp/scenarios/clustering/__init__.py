"""Clusters of pairs by similarity, of any collection that fits on a disk."""
