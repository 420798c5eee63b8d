"""A federation between machines: what a server and each site run, on Flower's own transport."""
