"""The model: frozen vision encoder, trainable projector, frozen causal LLM; loading from and export to Hugging Face."""
