"""Parts of a vision-language model by name: which of its weights belong to the tower and to the projector."""

from __future__ import annotations

import re
from collections.abc import Sequence

from burnish.model.settings import EXCEPT
from burnish.vision.families.family import VisionFamily
from burnish.vision.settings import VisionSettings


def freeze_patterns(family: VisionFamily | None, settings: VisionSettings) -> tuple[str, ...]:
    """Patterns of weights that do not train, as `freezing` reads them: a later one overrides an earlier one;
    (): of a language model."""
    if family is None:
        return ()
    tower, projector = _pattern(family.tower_parts), _pattern(family.projector_parts)
    found = [tower] if settings.tower == "frozen" else []
    if settings.projector == "frozen":
        return (*found, projector)
    within_tower = any(part.startswith(other + ".") for part in family.projector_parts for other in family.tower_parts)
    return (*found, EXCEPT + projector) if found and within_tower else tuple(found)


def is_frozen(name: str, patterns: Sequence[str]) -> bool:
    """Whether a weight or a layer of this name is frozen by the patterns."""
    frozen = False
    for pattern in patterns:
        if re.search(pattern.removeprefix(EXCEPT), name):
            frozen = not pattern.startswith(EXCEPT)
    return frozen


def _pattern(parts: Sequence[str]) -> str:
    return rf"(^|\.)({'|'.join(map(re.escape, parts))})(\.|$)"
