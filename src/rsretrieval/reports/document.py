"""A document of headings, paragraphs, tables and pictures, as Markdown and as one HTML file that holds its pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from rsretrieval.files import write_text

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "td,th{border-bottom:1px solid #ddd;padding:.25rem .7rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


class Document:
    """Built from top to bottom.

    Args:
        title: of it.
    """

    def __init__(self, title: str) -> None:
        self._markdown = [f"# {_escaped(title)}"]
        self._html = [f"<h1>{html.escape(title)}</h1>"]
        self._title = title

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._markdown.append(f"## {_escaped(text)}")
        self._html.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._markdown.append(_escaped(text))
        self._html.append(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its first column is a name."""
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        self._markdown.append("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._html.append(f"<table><tr>{head}</tr>{body}</table>")

    def picture(self, file: Path, caption: str) -> None:
        """Add a PNG that lies in the document's folder."""
        self._markdown.append(f"![{_escaped(caption)}]({file.name})")
        content = base64.b64encode(file.read_bytes()).decode()
        self._html.append(
            f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{content}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def write(self, folder: Path, name: str) -> list[Path]:
        """Write ``NAME.md`` and ``NAME.html``."""
        files = [folder / f"{name}.md", folder / f"{name}.html"]
        write_text(files[0], "\n\n".join(self._markdown) + "\n")
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self._title)}</title>'
        write_text(files[1], f"{head}<style>{STYLE}</style><body>{''.join(self._html)}</body></html>\n")
        return files


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    for sign in "\\`*_[]<>":
        text = text.replace(sign, f"\\{sign}")
    return text


def _cell(text: str) -> str:
    is_rule = set(text) <= {"-", ":"} and len(text) > 2
    return text if is_rule else _escaped(" ".join(text.split())).replace("|", "\\|")
