"""How one client learns: learning-rate schedule, local training over one part of its pairs, the update it sends."""
