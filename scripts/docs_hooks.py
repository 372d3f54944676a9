"""What MkDocs asks while it builds the site: notebooks, equations as MathML."""

import html
import re

from docs_pages import (
    NOTEBOOKS,
    for_site,
    notebook_index,
    notebook_page,
)
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# What pymdownx.arithmatex leaves of `$...$`, `\(...\)` and `$$...$$`.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks as pages."""
    notebooks = {path.stem: notebook_page(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    pages = {"notebooks/index.md": notebook_index(notebooks)}
    binaries: dict[str, bytes] = {}
    for stem, page in notebooks.items():
        pages[f"notebooks/{stem}.md"] = page.markdown
        binaries |= {f"notebooks/{name}": content for name, content in page.images.items()}
    for path, content in (pages | binaries).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put in what only the site shows."""
    return for_site(markdown)


def on_page_content(content: str, **_: object) -> str:
    """Equations as MathML, which browsers draw without a script."""
    content = _BLOCK.sub(lambda match: _mathml(match[1], "block"), content)
    return _INLINE.sub(lambda match: _mathml(match[1], "inline"), content)


def _mathml(latex: str, display: str) -> str:
    return convert(html.unescape(latex).strip(), display=display)
