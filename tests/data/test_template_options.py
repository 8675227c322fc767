"""Variables that a template reads, and the check of names that a user sets."""

from __future__ import annotations

import re

import pytest

from burnish.data.template import Template
from burnish.data.template_options import check_options, options_of
from burnish.errors import ModelError
from tests.data import template_stock


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("{{ messages }}{{ tools }}", set()),
        ("{% if thinking %}a{% endif %}", {"thinking"}),
        ("{% if thinking is not defined %}{% set thinking = true %}{% endif %}{{ thinking }}", {"thinking"}),
        ("{% set effort = effort if effort else 'high' %}{{ effort }}", {"effort"}),
        ("{{ effort | default('low') }}", {"effort"}),
        ("{% for m in messages %}{% if m %}{% set c = m.content %}{{ c }}{% endif %}{{ c }}{% endfor %}", set()),
        ("{% generation %}{{ deep }}{% endgeneration %}", {"deep"}),
        ("{% macro f(x) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}", {"y"}),
        ("{% not jinja", set()),
    ],
)
def test_options_of_a_template(source: str, options: set[str]) -> None:
    assert options_of(Template(source)) == options


def test_both_templates_of_a_tokenizer_count() -> None:
    assert options_of(Template("{{ a }}", "{{ b }}")) == {"a", "b"}


@pytest.mark.parametrize("name", template_stock.names())
def test_names_that_the_source_asks_for_are_known(name: str) -> None:
    source = re.sub(r"(?s)\{#.*?#\}", "", template_stock.source(name))
    asked = set(re.findall(r"\b(enable_thinking|reasoning_effort|add_vision_id|preserve_thinking)\b", source))
    assert asked <= options_of(Template(source))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    template = Template("{{ enable_thinking }}")
    check_options(template, {"enable_thinking": False})
    with pytest.raises(ModelError, match="enable_thinkin") as caught:
        check_options(template, {"enable_thinkin": False})
    assert caught.value.remedy == "did you mean enable_thinking?"
    with pytest.raises(ModelError, match="which every rendering sets itself"):
        check_options(template, {"messages": 1})
    with pytest.raises(ModelError, match="x") as caught:
        check_options(Template("{{ messages }}"), {"x": 1})
    assert caught.value.rule == "the chat template reads no variables of its own"
