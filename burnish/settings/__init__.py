"""Groups of settings that stages and verbs share. Imports no torch, so that a mistake is reported at once."""
