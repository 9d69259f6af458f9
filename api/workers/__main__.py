"""The program of a worker, as `api/workers/supervisor.py` starts it; its config arrives on standard input.

rich and numpy are kept out where they are installed: structlog and sqlite-utils would import them for features that a
worker never uses, at a cost of 18 MB. Afterwards the entries are removed again, because psycopg checks for numpy.
"""

import sys
from pathlib import Path

KEPT_OUT = ("rich", "numpy")

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
sys.modules.update(dict.fromkeys(KEPT_OUT))  # type: ignore[arg-type]  # None makes an import of it fail

from api.workers.worker import main

for name in KEPT_OUT:
    del sys.modules[name]

if __name__ == "__main__":
    main()
