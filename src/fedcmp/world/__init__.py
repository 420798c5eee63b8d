"""The embedded world, the tiny frozen encoder and LLM that ship with the package, and a world that they never saw."""
