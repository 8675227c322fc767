"""What a user may write, in parts that stages and verbs share. Needs no torch: a mistake is told at once."""
