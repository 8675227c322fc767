"""What the package brings along, so that everything runs without a download: a little world and a model that knows it.

``builtin:tiny`` is accepted wherever a model is named (`model_folder`); ``builtin:chat``, ``builtin:chat/test`` and so
on wherever data is (`builtin_rows`). docs/builtin.md has rows, figures, and how the model was made.
"""
