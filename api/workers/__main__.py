"""The program of a worker, as `api/workers/supervisor.py` starts it; its config arrives on standard input."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import api.workers.light_imports  # noqa: F401  # before anything else imports the store
from api.workers.worker import main

if __name__ == "__main__":
    main()
