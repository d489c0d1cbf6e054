"""What keys cover of the user's own plugins, and what they cannot cover."""

from __future__ import annotations

from sgabench.evidence.revisions import enumerated
from sgabench.plugins.registry import SECTIONS
from sgabench.suite.resolving import Suite


def known_lines(suite: Suite) -> list[str]:
    """A line for each plugin file or package that a suite uses."""
    known: dict[str, dict[str, None]] = {}
    for section, registry in SECTIONS.items():
        for choice in getattr(suite, section):
            origin = registry[choice.name].origin
            if origin.sources is None:
                continue
            beside = origin.sources.beside if origin.sources.path else []
            parts = known.setdefault(origin.label, {"its code": None})
            if beside:
                parts[f"{enumerated(beside)} beside it"] = None
            parts |= dict.fromkeys(f"the content of {name}" for name in choice.tags.get("files", ()))
            if "fingerprint" in choice.tags:
                parts[f"the fingerprint of {choice.label}"] = None
    return [
        f"{label}: keys cover {', '.join(parts)}; not files that are read after its call, "
        "or by native code, nor modules that are imported by computed names"
        for label, parts in known.items()
    ]
