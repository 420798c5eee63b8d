"""The embedded world: scenes, captions, questions and the tiny frozen encoder and LLM that ship with the package."""
