"""`python -m aetheris` is `aetheris`."""

from aetheris.cli import main

if __name__ == "__main__":
    main()
