"""Rollouts: prompts are answered by the policy, graded, credited, and dealt to optimizer steps."""
