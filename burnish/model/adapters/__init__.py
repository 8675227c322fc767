"""Adapters by peft: small trained matrices beside frozen weights. Between loading and training.

`kinds` says which there are, `settings` what one is made from, `targets` where it stands, `add` puts it there,
`initial` lets it begin with a part of the weights, `stored` goes on with one of a folder, `rates` knows their
learning rates.
"""
