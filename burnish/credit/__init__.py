"""Credit assignment: rewards → advantages. Pure functions of numbers, without a model."""
