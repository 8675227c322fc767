"""Built-in models and data sets, so that everything runs without a download.

``builtin:tiny``, and ``builtin:small`` with twice its layers, are accepted wherever a model is named
(`burnish.model.builtin`); ``builtin:chat``, ``builtin:chat/test`` and so on wherever data is named (`builtin_rows`).
docs/builtin.md has example rows, results, and how the models were made.
"""
