"""One look for the panels' HTML: every text is escaped here, colours are the notebook's own, nothing is loaded.

Each function takes plain text of strangers and returns markup. What is too
long is cut, what could reorder or hide words is spelled out.
"""

from __future__ import annotations

import html

from aetheris.domain.plain import printable
from aetheris.domain.rows import Rows

TEXT_CHARACTERS = 600
OPTION_CHARACTERS = 90
#: JupyterLab's variables, so a panel is light or dark as the page is; the second value is for other hosts.
STYLE = """<style>
.aetheris { color: var(--jp-ui-font-color1, currentColor); font-size: 13px; line-height: 1.5; max-width: 100%; }
.aetheris .scroll { overflow-x: auto; max-width: 100%; }
.aetheris table { border-collapse: collapse; font-size: 12px; margin: 4px 0 10px 0; }
.aetheris th { text-align: left; padding: 4px 12px 4px 0; font-weight: 600; white-space: nowrap;
  border-bottom: 1px solid var(--jp-border-color1, #999); }
.aetheris td { text-align: left; padding: 3px 12px 3px 0; vertical-align: top; overflow-wrap: break-word;
  max-width: 44em; border-bottom: 1px solid var(--jp-border-color2, #bbb); font-variant-numeric: tabular-nums; }
.aetheris h4 { margin: 10px 0 2px 0; font-size: 13px; font-weight: 600; }
.aetheris p { margin: 4px 0; max-width: 62em; overflow-wrap: anywhere; }
.aetheris pre { margin: 4px 0; padding: 6px 10px; white-space: pre-wrap; overflow-wrap: break-word; user-select: all;
  word-break: normal;
  font-family: var(--jp-code-font-family, monospace); font-size: 12px; color: inherit;
  background: var(--jp-layout-color2, rgba(128,128,128,0.12)); border-radius: 3px; }
.aetheris .good { color: var(--jp-success-color0, #1b7f3b); } .aetheris .bad { color: var(--jp-error-color0, #c62828); }
.aetheris a { color: var(--jp-content-link-color, inherit); text-decoration: underline; }
</style>"""


def page(*parts: str) -> str:
    """Return parts as one piece that looks as all others do."""
    return f'<div class="aetheris">{"".join(parts)}</div>'


def heading(text: str) -> str:
    """Return a heading."""
    return f"<h4>{safe(text)}</h4>"


def say(text: str, mood: str = "") -> str:
    """Return a paragraph; `mood` is "good", "bad" or neither, and never the only thing that says so."""
    return f'<p class="{html.escape(mood)}">{safe(text)}</p>' if mood else f"<p>{safe(text)}</p>"


def code(*lines: str) -> str:
    """Return lines to be copied: a click marks them all."""
    return f"<pre>{chr(10).join(safe(line) for line in lines)}</pre>"


def missing(what: str, *lines: str) -> str:
    """Return what is shown where nothing can be: what is missing, and what to type."""
    return page(say(what), code(*lines) if lines else "")


def table(rows: Rows, empty: str = "") -> str:
    """Return a table that scrolls rather than pushes the page; or `empty`, where there are no rows."""
    if not len(rows):
        return say(empty or "no rows")
    return f'<div class="scroll">{rows._repr_html_()}</div>'


def safe(text: str, limit: int = TEXT_CHARACTERS) -> str:
    """Return a stranger's text as markup that shows it, on one line and cut."""
    return html.escape(printable(text, limit))


def option(text: str) -> str:
    """Return a stranger's text for a list of choices, which shows plain text."""
    return printable(text, OPTION_CHARACTERS)
