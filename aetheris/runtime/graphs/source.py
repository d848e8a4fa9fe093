"""From a YAML or JSON file to a tree that knows the line of everything in it.

YAML is read for its layout alone. A plain scalar is what JSON would call it: a
number, true, false or null, else a text; so `no` stays a text and a telephone
number keeps its zeros. Tags and aliases are refused: the one can name code, the
other can unfold a small file into more than memory holds.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import events as y

from aetheris.domain.errors import Refused

FILE_BYTES_LIMIT = 1024 * 1024
DEPTH_LIMIT = 64
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Tree:
    """A value and the line it stands on; an entry of a mapping stands where its key does."""

    value: Any  # a scalar, list[Tree] or dict[str, Tree]
    line: int

    @property
    def plain(self) -> Any:
        """The value as JSON, without lines."""
        if isinstance(self.value, dict):
            return {key: item.plain for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain for item in self.value]
        return self.value


class Findings:
    """What is wrong with a file, each with its place."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        """Note one mistake."""
        self._found.append((line, text))

    def refuse(self) -> None:
        """Return only if nothing was found. Errors: Refused, with the first by line and how many follow."""
        if not self._found:
            return
        line, text = min(self._found, key=lambda f: f[0])
        place = f"{self.source}:{line}" if line else self.source
        more = len(self._found) - 1
        raise Refused(f"{place}: {text}" + (f" (and {more} more after it)" if more else ""))


def read(data: bytes, source: str) -> Tree:
    """Return the tree that a file's bytes hold. Errors: Refused, naming file and line."""
    if len(data) > FILE_BYTES_LIMIT:
        raise Refused(f"{source}: {len(data):,} bytes, more than {FILE_BYTES_LIMIT:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{source}: not UTF-8 at byte {error.start}") from None
    if source.endswith(".json"):
        # JSON allows tabs between its parts, YAML doesn't; in a JSON string a tab is always an escape.
        text = text.replace("\t", " ")
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise builder.refused(*_told(error, text)) from None
    except yaml.YAMLError as error:
        raise Refused(f"{source}: {' '.join(str(error).split())}") from None
    if builder.root is None:
        raise Refused(f"{source}: it is empty: a graph has nodes")
    return builder.root


def of_json(value: Any) -> Tree:
    """Return the tree of a stored definition; it knows no lines."""
    if isinstance(value, dict):
        return Tree({key: of_json(item) for key, item in value.items()}, 0)
    if isinstance(value, list):
        return Tree([of_json(item) for item in value], 0)
    return Tree(value, 0)


class _Builder:
    """Builds the tree from the parser's events, without recursion."""

    def __init__(self, source: str) -> None:
        self.root: Tree | None = None
        self._source = source
        self._open: list[Tree] = []
        self._keys: list[tuple[str, int] | None] = []

    def refused(self, line: int, text: str) -> Refused:
        return Refused(f"{self._source}:{line}: {text}")

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, y.AliasEvent):
            raise self.refused(line, "an alias (*name): write the value out")
        if getattr(event, "tag", None) is not None:
            raise self.refused(line, f"a tag ({event.tag}): a graph holds texts, numbers, lists and mappings alone")
        if isinstance(event, y.DocumentStartEvent) and self.root is not None:
            raise self.refused(line, "a second document: one graph to a file")
        if isinstance(event, y.CollectionStartEvent):
            self._begin(Tree({} if isinstance(event, y.MappingStartEvent) else [], line))
        elif isinstance(event, y.CollectionEndEvent):
            self._open.pop()
            self._keys.pop()
        elif isinstance(event, y.ScalarEvent):
            self._scalar(event, line)

    def _begin(self, tree: Tree) -> None:
        if len(self._open) >= DEPTH_LIMIT:
            raise self.refused(tree.line, f"nested deeper than {DEPTH_LIMIT}")
        self._open.append(self._put(tree))
        self._keys.append(None)

    def _scalar(self, event: y.ScalarEvent, line: int) -> None:
        if self._open and isinstance(self._open[-1].value, dict) and self._keys[-1] is None:
            key = self._text(event.value, line)
            if key in self._open[-1].value:
                raise self.refused(line, f'"{key}" stands here a second time')
            self._keys[-1] = key, line
            return
        self._put(Tree(self._value(event, line), line))

    def _put(self, tree: Tree) -> Tree:
        if not self._open:
            self.root = tree
            return tree
        inside = self._open[-1].value
        if isinstance(inside, list):
            inside.append(tree)
            return tree
        if (key := self._keys[-1]) is None:
            raise self.refused(tree.line, "a list or mapping in the place of a name")
        self._keys[-1] = None
        inside[key[0]] = tree = Tree(tree.value, key[1])
        return tree

    def _value(self, event: y.ScalarEvent, line: int) -> Any:
        text: str = event.value
        if event.style is not None:
            return self._text(text, line)
        if text in _WORDS:
            return _WORDS[text]
        if not _NUMBER.fullmatch(text):
            return self._text(text, line)
        try:
            number = json.loads(text)
        except ValueError:
            raise self.refused(line, "a number of thousands of digits") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise self.refused(line, f"{text[:24]} is more than a number can hold")
        return number

    def _text(self, text: str, line: int) -> str:
        try:
            # JSON writes what lies beyond 16 bits as two escapes; joined they are one character.
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.refused(line, "a text holds half of a surrogate pair") from None


def _told(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = error.problem or error.context or "not YAML"
    lines = text.splitlines()
    near = lines[line - 1] if line <= len(lines) else ""
    hint = '; inside { } or [ ] a template stands in quotes: "${...}"' if "${" in near else ""
    return line, f"not YAML: {problem}{hint}"
