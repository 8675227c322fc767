"""Data preparation: files and hub sets to groups, in the steps rows -> examples -> text -> tokens and loss masks.

`read_rows` returns rows with their file and line, `formats` converts them to examples, `template` and `rendering` write
the text of serving, `tokenize` returns tokens and loss masks, `DatasetSpec` does all steps for a whole set and stores
the result in the cache, and `StreamingDataset` returns groups while the rest is still tokenized.
"""
