"""Makes the PostgreSQL laboratory of tests/components importable here."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
for folder in ("sim", "components"):
    sys.path.insert(0, str(TESTS / folder))
