"""Attacks on the sandbox, as data; `ATTACKS` has all of them."""

from __future__ import annotations

from tests.sandbox.attacks.exhaustion import EXHAUSTION
from tests.sandbox.attacks.exits import EXITS
from tests.sandbox.attacks.files import FILES
from tests.sandbox.attacks.forged import FORGED
from tests.sandbox.attacks.kernel import KERNEL
from tests.sandbox.attacks.left import LEFT
from tests.sandbox.attacks.network import NETWORK
from tests.sandbox.attacks.others import OTHERS
from tests.sandbox.attacks.patched import PATCHED
from tests.sandbox.attacks.record import Attack
from tests.sandbox.attacks.values import VALUES

ATTACKS: tuple[Attack, ...] = (
    *EXITS,
    *FORGED,
    *VALUES,
    *PATCHED,
    *EXHAUSTION,
    *LEFT,
    *FILES,
    *NETWORK,
    *OTHERS,
    *KERNEL,
)
