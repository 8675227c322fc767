"""Optimizers of libraries, with float32 master weights for 16-bit parameters."""
