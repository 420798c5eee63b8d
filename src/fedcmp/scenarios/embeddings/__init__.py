"""Pictures and captions as vectors, computed once and kept in a folder: what scenarios are cut by."""
