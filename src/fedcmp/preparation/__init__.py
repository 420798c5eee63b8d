"""From a recipe to a run's prepared pairs on disk, and back."""
