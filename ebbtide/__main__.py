"""`python -m ebbtide`: the `ebbtide` command, for where its script is not on the path."""

from ebbtide.cli import main

if __name__ == "__main__":
    main()
