"""Sources of groups: rows of data, rollouts of the policy."""
