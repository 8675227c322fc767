"""Functions of the package `burnish`: training, and the commands on a model and on data. `burnish` exports them."""

import logging

# bitsandbytes warns on import that an optional kernel, which nothing here uses, is not installed.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
