"""Relative links and anchors in README and docs lead to files and headings that exist."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "burnish/**/README.md") for path in ROOT.glob(pattern))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose(path: Path) -> str:
    """A page without its fenced blocks and inline code."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a page's headings, as GitHub makes them (equal ones are numbered), and those that it sets itself."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    seen: Counter[str] = Counter()
    names = []
    for heading in re.findall(r"^#{1,6} +(.*?) *$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        names.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return frozenset({*names, *re.findall(r'<a id="([^"]+)"', text)})


LINKS = [(path, target) for path in PAGES for target in dict.fromkeys(LINK.findall(prose(path))) if "://" not in target]


def test_there_are_links() -> None:
    assert len(LINKS) > 150


@pytest.mark.parametrize(
    ("page", "target"), LINKS, ids=[f"{page.relative_to(ROOT)}: {target}" for page, target in LINKS]
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    place = (page.parent / name).resolve() if name else page
    assert place.exists()
    assert place.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(place)


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `key`: what it does\n```\n# no heading\n```\n## [Linked](x.md) & more\n## Same\n## Same\n")
    assert anchors(page) == {"a-key-what-it-does", "linked--more", "same", "same-1"}
