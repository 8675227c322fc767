"""One row of a file or a set, as it is read."""

from __future__ import annotations

from collections.abc import Mapping

Row = Mapping[str, object]
"""Column name -> value, as `json` gives it: str, int, float, bool, None, list, dict."""
