"""Files that are copied beside a task file and run in lmms-eval's environment, where fedcmp is not."""
