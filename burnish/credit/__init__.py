"""How much each token counts: verdicts → advantages. Pure functions of numbers; nothing here knows a model."""
