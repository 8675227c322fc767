"""How good the model is."""

from burnish.evaluate.held_out import held_out_loss

__all__ = ["held_out_loss"]
