"""Silences progress bars and warnings of libraries."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL, getLogger

from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Context in which transformers and huggingface_hub show no progress bars and no warnings; errors are still
    raised."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = getLogger("huggingface_hub")
    hub_level = hub.level
    hub.setLevel(CRITICAL)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(hub_level)
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
