"""Readers: one module for each kind of place that rows come from. `burnish.data.read` chooses among them."""
