"""The command line: one verb per user action."""
