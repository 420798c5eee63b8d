"""What docs/reliability.md says, tried: runs killed at random moments, and runs with damaged files."""
