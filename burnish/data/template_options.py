"""Options of a chat template: the variables that it reads, and a check of the names that a user sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeGuard

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import loopcontrols
from jinja2.parser import Parser

from burnish.data.template import Template
from burnish.errors import ModelError
from burnish.similar import similar

_GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now")
"""Names that rendering itself gives to a template."""


class _GenerationBlocks(jinja2.ext.Extension):
    """Parses ``{% generation %}``, with which some templates mark what is learned."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("_unchanged"), [], [], body)
        block.set_lineno(line)
        return block


@lru_cache(maxsize=16)
def options_of(template: Template) -> frozenset[str]:
    """Returns the variables that a template reads, other than those of rendering; none if it is not valid Jinja."""
    environment = jinja2.Environment(extensions=[loopcontrols, _GenerationBlocks])
    found: set[str] = set()
    for source in {template.source, template.for_tools(tools=True)}:
        try:
            tree = environment.parse(source)
            found |= meta.find_undeclared_variables(tree) - _own_variables(tree)
        except jinja2.TemplateSyntaxError:  # rendering says so
            return frozenset()
    return frozenset(found).difference(_GIVEN)


def _own_variables(tree: nodes.Template) -> set[str]:
    """Names that a template sets itself, in some branch, and takes from nobody: it neither asks whether they are
    defined nor sets them from themselves."""
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    asked = {test.node.name for test in tree.find_all(nodes.Test) if _is_name(test.node) and "defined" in test.name}
    asked |= {
        found.node.name for found in tree.find_all(nodes.Filter) if _is_name(found.node) and "default" in found.name
    }
    assigned = [node for node in tree.find_all(nodes.Assign) if _is_name(node.target)]
    from_others = {node.target.name for node in assigned if not _reads(node.node, node.target.name)}  # type: ignore[attr-defined]
    return stored - asked - ({node.target.name for node in assigned} - from_others)  # type: ignore[attr-defined]


def _reads(expression: nodes.Node, name: str) -> bool:
    names = [expression] if _is_name(expression) else []
    return any(found.name == name for found in (*names, *expression.find_all(nodes.Name)))


def _is_name(node: object) -> TypeGuard[nodes.Name]:
    return isinstance(node, nodes.Name)


def check_options(template: Template, options: Mapping[str, object]) -> None:
    """Raises ModelError for an option that the template does not read."""
    known = sorted(options_of(template))
    settable = [name for name in known if not name.endswith("_token")]
    for name in options:
        if name in known:
            continue
        near = similar(name, known)
        given = f"chat_template_kwargs.{name}"
        if name in _GIVEN:
            given += ", which every rendering sets itself"
        raise ModelError(
            given=given,
            rule=f"the chat template reads the variables {', '.join(settable)}"
            if settable
            else "the chat template reads no variables of its own",
            remedy=f"did you mean {near[0]}?" if near else "remove it, or name another template",
        )
