"""The run folder, its checkpoints, and what exact resume needs."""
