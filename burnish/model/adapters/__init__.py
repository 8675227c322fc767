"""Adapters by peft: small trained matrices beside frozen weights. Between loading and training.

`kinds` says which there are, `settings` what one is made from, `targets` where it stands, `add` puts it there,
`initial` lets it begin with a part of the weights, `stored` goes on with one of a folder, `rates` knows their
learning rates.
"""

from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.kinds import KINDS, AdapterKind
from burnish.model.adapters.rates import factors_of_b
from burnish.model.adapters.settings import AdapterSettings, Init
from burnish.model.adapters.stored import go_on_with, stored_adapter

__all__ = [
    "KINDS",
    "AdapterKind",
    "AdapterSettings",
    "Init",
    "add_adapter",
    "factors_of_b",
    "go_on_with",
    "stored_adapter",
]
