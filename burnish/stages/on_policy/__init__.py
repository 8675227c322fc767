"""What stages have in common whose responses the policy generates: settings, opened data, and the way to a stage."""
