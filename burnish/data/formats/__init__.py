"""Formats: recognize the columns of a data set, and convert rows to typed examples.

Between `read` (rows) and `rendering` (text). A row that does not fit raises a DataError with the fault in the row; the
caller adds the file and line, and collects the errors.
"""
