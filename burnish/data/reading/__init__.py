"""Readers of rows: one module for each kind of source. `burnish.data.read` selects the reader."""
