"""A made-up result, and small models, which the tests of this folder share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # made_result.py, made_models.py
