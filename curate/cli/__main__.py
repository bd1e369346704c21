"""`python -m curate.cli`: the command where no script is installed."""

from curate.cli import main

if __name__ == "__main__":
    main()
