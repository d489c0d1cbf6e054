"""What the README and the docs show: their pages, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code, with the title that says what it is."""

    page: str
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        first = next(iter(self.text.splitlines()), "")
        return f"{self.page}:{self.title or first}"


BLOCKS = [Block(page.name, *match) for page in PAGES for match in FENCE.findall(page.read_text(encoding="utf-8"))]
PLUGINS = [b for b in BLOCKS if b.language == "python" and b.title.endswith(".py")]
READ_BY_PLUGINS = [b for b in BLOCKS if b.language == "text" and b.title.endswith(".txt")]
SNIPPETS = [b for b in BLOCKS if b.language == "python" and b.title == "from Python"]
SUITES = [b for b in BLOCKS if b.language == "toml" and not b.title]
FRAGMENTS = [b for b in BLOCKS if b.language == "toml" and b.title == "part of a suite"]
SHELL = [
    line.partition(" #")[0].partition(" >")[0].strip()
    for block in BLOCKS
    if block.language == "sh"
    for line in block.text.splitlines()
]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def registered(block: Block) -> list[tuple[str, str]]:
    """Kind and name of what a plugin file registers."""
    return re.findall(r'^@(\w+)\.register\("([^"]+)"', block.text, re.MULTILINE)


def section_of(kind: str) -> str:
    """Where a suite names plugins of that kind: a score is named as a pruner."""
    return "pruners" if kind == "scores" else kind
