"""One HTML page that needs nothing else: no script, no font, no request; light or dark as the reader's screen is.

Everything that goes into a tag is escaped, unless a tag made it.
"""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --ink: #1d2129; --faint: #5f6672; --line: #d9dbe0; --track: #eceef1;
  --ours: #1f5fa8; --bare: #7d8590; --diary: #c1640c; --files: #7a4fb0; --good: #1b7a3d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171c; --ink: #e6e8ec; --faint: #9aa2af; --line: #343a44; --track: #232830;
  --ours: #6fb0ff; --bare: #8d96a3; --diary: #f0a04b; --files: #bf9bf2; --good: #5fd08a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 44rem; }
.faint, caption, .note { color: var(--faint); }
.verdict { font-size: 1.15rem; border-left: .3rem solid var(--good); padding: .25rem 0 .25rem .75rem; }
.verdict.missed { border-color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; padding: .25rem 0; font-size: .85rem; }
table.bars { table-layout: fixed; margin-top: 1rem; }
table.bars caption { color: var(--ink); font-size: .92rem; font-weight: 600; }
th, td { padding: .35rem .6rem .35rem 0; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--faint); font-weight: 500; font-size: .85rem; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.note { display: block; font-size: .85rem; }
td.met, td.missed, td.open { white-space: nowrap; font-weight: 600; }
td.met { color: var(--good); } td.missed { color: var(--bad); } td.open { color: var(--faint); }
.bars th { width: 27%; } .bars .number { width: 34%; white-space: normal; }
.bars small { color: var(--faint); padding-left: .4rem; }
.targets .measured { white-space: nowrap; }
td.bar { vertical-align: middle; }
.track { position: relative; display: block; height: .8rem; background: var(--track); border-radius: .2rem; }
.track i { position: absolute; inset: 0 auto 0 0; min-width: 2px; border-radius: .2rem; }
.track b { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--ink); }
figure { margin: .75rem 0; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; }
@media (max-width: 36rem) {
  table { font-size: .85rem; } th, td { padding-right: .4rem; }
  .targets thead { display: none; }
  .targets tr { display: grid; grid-template-columns: 1fr auto; border-top: 1px solid var(--line); padding: .4rem 0; }
  .targets th, .targets td { border: 0; padding: .1rem 0; }
  .targets tr > :last-child { grid-area: 1 / 2; padding-left: .75rem; }
  .targets .target, .targets .measured { grid-column: 1 / 3; }
  .targets .target::before { content: "target "; color: var(--faint); }
  .targets .measured::before { content: "measured "; color: var(--faint); } }
"""


class Markup(str):
    """HTML that is as it should be: it is not escaped again."""

    __slots__ = ()


def tag(name: str, *content: str, of: str | None = None, **attributes: str) -> Markup:
    """An element; `of` is its class. Text in it is escaped, elements are not."""
    all_of_them = {"class": of} if of else {}
    told = "".join(f' {key.replace("_", "-")}="{escape(value)}"' for key, value in (all_of_them | attributes).items())
    return Markup(f"<{name}{told}>{''.join(map(_inside, content))}</{name}>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", numbers: int = 0) -> Markup:
    """Rows under their heads, the first cell naming its row; the last so many columns are numbers."""
    first_number = len(head) - numbers
    classes = ["number" if column >= first_number else None for column in range(len(head))]
    heads = (tag("th", text, of=of, scope="col") for text, of in zip(head, classes, strict=True))
    body = []
    for row in rows:
        cells = (tag("td", cell, of=of) for cell, of in zip(row[1:], classes[1:], strict=True))
        body.append(tag("tr", tag("th", row[0], scope="row"), *cells))
    told = [tag("caption", caption)] if caption else []
    return tag("div", tag("table", *told, tag("thead", tag("tr", *heads)), tag("tbody", *body)), of="wide")


def page(title: str, *content: str) -> str:
    """The whole document."""
    head = "".join(
        [
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            tag("title", title),
            f"<style>{STYLE}</style>",
        ]
    )
    body = tag("body", tag("main", *content))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _inside(content: str) -> str:
    return content if isinstance(content, Markup) else escape(content)
