"""What is minimised: pure functions of scores and microbatches that return sums and name their denominators."""
