"""`python -m reference`: writes every page that is made from the program, and says which were not current."""

from __future__ import annotations

from reference.pages import DOCS, PAGES

for name, make in PAGES.items():
    page = DOCS / name
    before = page.read_text() if page.exists() else ""
    after = make(before)
    if after != before:
        page.parent.mkdir(exist_ok=True)
        page.write_text(after)
        print(f"{page.relative_to(DOCS.parent)} is new")
