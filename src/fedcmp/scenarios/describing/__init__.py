"""What a built scenario looks like: maps, measures, pictures and words, as plain data for the report."""
