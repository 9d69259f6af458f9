"""`python -m bench.storms`."""

import sys

from bench.storms.run import main

sys.exit(main())
