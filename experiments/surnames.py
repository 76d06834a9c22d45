"""Train, evaluate and use the surname classifier: ``npnlp train`` as a script."""

import sys

from npnlp.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
