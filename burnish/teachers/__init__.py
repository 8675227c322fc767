"""Teachers of distillation: models, servers and tables that say how probable tokens of a student's responses are."""
