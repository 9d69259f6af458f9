"""A worker of the HTTP API, as run.py starts it (`api/workers/supervisor.py`); its orders come on standard input.

rich and numpy are left out where they are installed: structlog and sqlite-utils would import them for what a worker
never does, and they take 18 MB. Afterwards they are as if nobody had asked: psycopg looks whether numpy is there.
"""

import sys
from pathlib import Path

LEFT_OUT = ("rich", "numpy")

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
sys.modules.update(dict.fromkeys(LEFT_OUT))  # type: ignore[arg-type]  # None: an import of it fails

from api.workers.worker import main

for name in LEFT_OUT:
    del sys.modules[name]

if __name__ == "__main__":
    main()
