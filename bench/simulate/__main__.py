"""`python -m bench.simulate`."""

import sys

from bench.simulate.months import main

sys.exit(main())
