"""`python -m thorndike` is the command `thorndike`."""

import sys

from thorndike.cli import main

sys.exit(main())
