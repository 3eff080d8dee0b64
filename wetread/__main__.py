"""`python -m wetread`."""

from wetread.cli import main

if __name__ == "__main__":
    main()
