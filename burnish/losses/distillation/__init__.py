"""Losses of distillation: their settings, the loss of a divergence that scoring computes, and metrics."""
