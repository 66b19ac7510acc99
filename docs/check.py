# SPDX-License-Identifier: Apache-2.0
"""Check the pages: relative links lead to files, and paths in back-quotes that look like the tree's exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)")
TREE_PATH = re.compile(r"`((?:core|targets|hosts|tests|docs)/[\w./-]*\w/?)`")


def dead_ends(page: Path) -> Iterator[str]:
    """What `page` points to that is not there."""
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
            yield f"link {link}"
    for path in TREE_PATH.findall(text):
        if not (ROOT / path).exists():
            yield f"path {path}"


def main() -> int:
    problems = [f"{page.relative_to(ROOT)}: {what} does not exist" for page in PAGES for what in dead_ends(page)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(PAGES)} pages, {len(problems)} dead ends")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
