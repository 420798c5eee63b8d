"""What a run will need: memory, disk, bytes on the network."""
