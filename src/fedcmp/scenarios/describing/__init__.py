"""What a scenario looks like, of a recipe or built on disk: measures and maps; images and words, as plain data."""
