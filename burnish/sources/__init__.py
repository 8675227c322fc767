"""Where groups come from."""
