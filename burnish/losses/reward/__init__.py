"""What a reward model learns by: Bradley–Terry for pairs, Plackett–Luce for rankings, squares for scores, and steps."""
