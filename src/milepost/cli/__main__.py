"""``python -m milepost.cli``: the command line where its script is not on the path."""

from milepost.cli.app import main

if __name__ == "__main__":
    main()
