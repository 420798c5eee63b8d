"""A deployment through any fault: real processes that are killed, cut off, misled and filled up, by seed."""
