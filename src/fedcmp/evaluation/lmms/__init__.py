"""The paper's seven benchmarks through lmms-eval: in an environment of its own, offline, cached answer by answer.

lmms-eval is never imported here, but by child/, which is copied into its environment. One process a benchmark asks an
exported LLaVA folder; its files are read, checked and kept as one JSON file a benchmark (docs/evaluation.md, Real
benchmarks).
"""
