"""Worker processes of every kind: a pool of them, how they are started, and the loop that each of them runs."""
