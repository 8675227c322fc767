"""Families of vision-language models: a file each."""
