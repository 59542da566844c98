"""`python -m setun`: the command line."""

import sys

from setun.cli import main

sys.exit(main())
