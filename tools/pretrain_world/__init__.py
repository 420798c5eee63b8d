"""Pretraining of the embedded world's frozen parts, the tiny CLIP and the tiny Llama (src/fedcmp/world/weights/)."""
