"""``python -m npnlp`` is ``npnlp``."""

import sys

from npnlp.cli import main

if __name__ == "__main__":
    sys.exit(main())
