"""Built-in model and data sets, so that everything runs without a download.

``builtin:tiny`` is accepted wherever a model is named (`model_folder`); ``builtin:chat``, ``builtin:chat/test`` and so
on wherever data is named (`builtin_rows`). docs/builtin.md has example rows, results, and how the model was made.
"""
