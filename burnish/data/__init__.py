"""Files and hub sets become groups: rows -> conversations -> text -> tokens and masks.

The first stage of the flow. `read_rows` gives rows that know their file and line, `formats` says what a row means,
`template` writes it as the text that serving would see, `tokenize` makes tokens and a mask of it, `Preparation` does
all of this for a whole set and keeps the result compactly, and a `Feed` gives groups of it from the first moment on.
"""
