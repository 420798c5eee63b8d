"""A federation on the sites' own machines: serve, join, keys, a lab to try it; on Flower, an optional extra."""
