"""Optimisers from libraries, over float32 masters where the weights are narrower. Stands beside `step`."""
