"""Imports the store without what a start doesn't need. The program's entry points import this first.

structlog would import rich, and sqlite-utils numpy, for features that neither the service nor a worker uses. That costs
18 MB, and a quarter of the time that a start takes. Afterwards the entries are removed again, because reports use rich
and psycopg checks for numpy. A program that uses the store as a library doesn't import this module.

The garbage collector is off until everything is imported: modules are no garbage, and looking at all of them again and
again took a sixth of a start.
"""

import gc
import sys

gc.disable()

KEPT_OUT = [name for name in ("rich", "numpy") if name not in sys.modules]

sys.modules.update(dict.fromkeys(KEPT_OUT))  # type: ignore[arg-type]  # None makes an import of it fail

import keystore.sql.store
import keystore.sqlite.queries  # noqa: F401

for name in KEPT_OUT:
    del sys.modules[name]
