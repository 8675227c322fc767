"""Functions of the package `burnish`: training, and the commands on a model and on data. `burnish` exports them."""
