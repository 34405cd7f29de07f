"""`python -m stealmesh` is the command `stealmesh`."""

import sys

from stealmesh.cli import main

sys.exit(main())
