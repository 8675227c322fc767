"""Tokenizers for the tests of evaluation."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerBase

from tests.data.conftest import _llama_style


@pytest.fixture(scope="session")
def llama_style() -> PreTrainedTokenizerBase:
    """Sentencepiece-like: every text begins with a space that decoding takes away."""
    return _llama_style()
