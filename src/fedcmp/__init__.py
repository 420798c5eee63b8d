"""fedcmp: federated pretraining of multimodal LLMs by merging cross-modal projectors."""

__version__ = "0.2.0"
