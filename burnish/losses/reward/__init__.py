"""Losses of reward models: Bradley–Terry for pairs, Plackett–Luce for rankings, regression for scores, step losses."""
