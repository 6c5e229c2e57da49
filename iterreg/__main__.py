"""``python -m iterreg`` is the ``iterreg`` command."""

import sys

from iterreg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
