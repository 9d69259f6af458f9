"""Starts the program as `signal-keystore` or `python -m signal_keystore`.

In a wheel, run.py, settings.py, api, commands and service are in this package, because such names would be in the way
at the top of site-packages. In a checkout they are beside it. Either folder comes first on the module path. The working
folder is taken off that path, so that nothing in it is imported in place of a part of the program.
"""

import os
import sys
from pathlib import Path


def main() -> int:
    """Run the command that the command line names; return its exit code."""
    here = Path(__file__).absolute().parent
    parts = here if (here / "run.py").is_file() else here.parent
    sys.path[:] = [str(parts), *(entry for entry in sys.path if entry not in ("", os.getcwd(), str(parts)))]

    import api.workers.light_imports  # noqa: F401  # before anything else imports the store
    from keystore.invocation import INSTALLED, set_program

    as_command = Path(sys.argv[0]).name != "__main__.py"
    set_program(INSTALLED if as_command else "python -m signal_keystore")

    from commands import program
    from run import wire

    return program.run(wire)


if __name__ == "__main__":
    sys.exit(main())
