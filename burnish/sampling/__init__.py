"""Who writes tokens: prompts → groups of responses, with the log-probabilities that training will compute again."""
