"""`python -m bench.http_api`."""

import sys

from bench.http_api.run import main

sys.exit(main())
