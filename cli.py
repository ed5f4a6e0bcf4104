"""Run from a checkout: `python cli.py render --preset fst6 --n 12`. The app is synthskin/cli.py."""

from synthskin.cli import main

if __name__ == "__main__":
    main()
