"""Row of a file or data set, as read."""

from __future__ import annotations

from collections.abc import Mapping

Row = Mapping[str, object]
"""Column name -> value of a JSON type: str, int, float, bool, None, list, dict."""
