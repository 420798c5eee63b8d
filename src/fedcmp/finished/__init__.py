"""What is done with a finished run: evaluate again, export with a model card, ask real benchmarks."""
