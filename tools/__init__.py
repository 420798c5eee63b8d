"""What made the files that the package ships; run from the repository's root, no part of the package."""
