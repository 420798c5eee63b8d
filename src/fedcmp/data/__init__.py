"""Pairs of pictures and captions: read, checked, turned into frozen features and one-pass batches.

pairs      open_pairs: LLaVA-format JSON and an images folder (llava), WebDataset tars (tars)
images     any picture file to upright RGB
captions   what a caption may be, token ids, the tokenizer's vocabulary
quality    bad pairs: counted, named, skipped, up to a limit
features   features computed in passing;   store: computed once, kept, memory-mapped
batches    an order that never changes, parts for the rounds, batches, a cursor
"""
