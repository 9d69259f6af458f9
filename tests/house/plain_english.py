"""Finds the worst habits of prose and names in the tracked files: `python -m tests.house.plain_english [PATH ...]`.

The rule stands in CONTRIBUTING.md. This finds only what a program can find: names that name nothing, sentences that
begin with a clause as their subject, sentences that are far too long, and words that have a plain one.
Prints `file:line: complaint` for each, and exits with 1 when there are any.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from rig.paths import PROJECT

EMPTY_NAMES = {"told", "said", "happened", "kept", "given", "found", "there", "one", "of", "anew", "whose", "ours"}
"""Names that don't say what the variable holds."""

PUBLIC_NAMES = {("monitor/upkeep/repair.py", "kept")}
"""Names that stay, because a report's JSON has them."""

CLAUSE = re.compile(r"(What|Whose|Whether|How|Whoever|Whatever|Who|Whichever)\b(?![^.!]*\?)")
"""A sentence's beginning that is a clause as its subject; a question is none."""

PLAIN = {
    r"\banew\b": "again",
    r"\bfor ever\b": "forever, or without end",
    r"\bwhoever\b": "the noun",
    r"\bwhatever\b": "any, or the noun",
    r"\bthe [Dd]iary(?!`)\b": "the original operator's system, or legacy",
    r"\b[Dd]iary's\b": "the original operator's, or legacy",
    r"\bdiary-shaped\b": "legacy",
}
"""Words, and what to write in their place."""

MOST_WORDS = 40
"""The rule is some 25; this finds what is beyond doubt."""

PROSE = {".md"}
EXEMPT = {"CHANGELOG.md", "LICENSE", "tests/house/plain_english.py", "CONTRIBUTING.md"}
"""History, and the files that must quote what they forbid."""

SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*[*•|-] ")
Complaint = tuple[int, str]


def complaints(path: Path) -> list[Complaint]:
    """`(line, complaint)` of one file, in order."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in PROSE:
        return sorted(of_markdown(text))
    public = {name for file, name in PUBLIC_NAMES if path == PROJECT / file}
    return sorted([*of_names(text, public), *of_comments(text), *of_docstrings(text)])


def of_names(text: str, public: Set[str]) -> Iterator[Complaint]:
    """Variables, parameters and attributes with a name that names nothing."""
    for node in ast.walk(ast.parse(text)):
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = node.name
        if name is not None and name not in public and name.strip("_").lower() in EMPTY_NAMES:
            yield getattr(node, "lineno", 1), f"the name {name!r} doesn't say what it holds"


def of_docstrings(text: str) -> Iterator[Complaint]:
    """Docstrings, those below constants too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from of_prose(node.value.value, node.lineno)


def of_comments(text: str) -> Iterator[Complaint]:
    """Comments; those on lines that follow each other are one text."""
    block, began, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, words = token.start[0], token.string.lstrip("#: ")
        if line != last + 1:
            yield from of_prose(block, began)
            block, began = words, line
        else:
            block += f"\n{words}"
        last = line
    yield from of_prose(block, began)


def of_markdown(text: str) -> Iterator[Complaint]:
    """Paragraphs, without code, tables and generated figures."""
    without_code = re.sub(r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.M | re.S)
    without_tables = re.sub(r"^\|.*$", "", without_code, flags=re.M)
    yield from of_prose(without_tables, 1)


def of_prose(text: str, line: int) -> Iterator[Complaint]:
    """One text that begins on a line."""
    text = re.sub(r"`[^`\n]*`", lambda match: "`" + "x" * (len(match[0]) - 2) + "`", text)
    begin = 0
    for end in [*(match.end() for match in SENTENCE_END.finditer(text)), len(text)]:
        sentence, at = text[begin:end].strip(), line + text.count("\n", 0, begin)
        after_colon = text[:begin].rstrip().endswith((":", ";"))
        begin = end
        if CLAUSE.match(sentence) and not after_colon:
            yield at, f"begins with a clause as its subject: {sentence[:60]!r}"
        if len(sentence.split()) > MOST_WORDS:
            yield at, f"{len(sentence.split())} words in one sentence: {sentence[:60]!r}"
    for pattern, plain in PLAIN.items():
        for match in re.finditer(pattern, text):
            yield line + text.count("\n", 0, match.start()), f"{match[0]!r}: write {plain}"


def tracked(paths: Sequence[str]) -> Iterator[Path]:
    """The tracked files that are read, below these paths or all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *paths], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in listed.splitlines():
        path = PROJECT / name
        if path.suffix in {".py", *PROSE} and name not in EXEMPT and path.is_file():
            yield path


def main(paths: Sequence[str]) -> int:
    """Prints every complaint; 1 when there is one."""
    count = 0
    for path in tracked(paths):
        for line, complaint in complaints(path):
            print(f"{path.relative_to(PROJECT)}:{line}: {complaint}")
            count += 1
    if count:
        print(f"{count} places to write more plainly; CONTRIBUTING.md has the rule")
    return bool(count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
