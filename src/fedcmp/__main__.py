"""`python -m fedcmp`, and what a launcher starts several times: `torchrun --nproc-per-node 2 -m fedcmp train`."""

from fedcmp.cli.main import main

if __name__ == "__main__":
    main()
