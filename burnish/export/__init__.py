"""Writing a trained model: export, merge, push, model card, verification, serving."""
