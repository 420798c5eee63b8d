"""Curves of a run for TensorBoard, Weights & Biases and trackio; written from a run's metrics.jsonl only."""
