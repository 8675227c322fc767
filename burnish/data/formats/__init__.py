"""What a row means: the columns of a set are recognised as a format, which turns rows into typed examples.

Stands between `read` (rows) and the renderings (text). A row that does not fit raises a DataError that tells what is
wrong in the row; the caller knows the file and line, and collects.
"""
