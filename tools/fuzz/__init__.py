"""Damaged and hostile inputs of every kind that the package reads, and what becomes of each: `make fuzz`."""
