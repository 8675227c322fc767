"""What a run tells people. Told by everyone, knows nobody."""
