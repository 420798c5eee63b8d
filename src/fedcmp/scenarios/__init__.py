"""Who holds what.

A *partition* says which client holds which pairs; a client's *holdings* are its pairs. A *manifest* is the file of a
run's partition. `fedcmp scenario build` *builds* a partition of ids on disk, a built scenario, and a client's *share*
is its part of one.
"""
