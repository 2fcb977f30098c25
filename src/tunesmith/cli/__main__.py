"""`python -m tunesmith.cli`, the same as `tunesmith`."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()
