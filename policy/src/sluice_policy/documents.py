"""YAML text → plain values with the line of every field. Bounded; every fault is a value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Above what etcd takes for one resource (1.5 MiB), so that several fit into one file."""

VALUES_MAX = 200_000
"""Values of one document with aliases expanded; 20,000 column entries are 80,000."""

DEPTH_MAX = 64
"""The deepest field of either resource is at 8."""

_TAG = "tag:yaml.org,2002:"

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the text itself."""

    line: int | None
    location: Location
    message: str


@dataclass(slots=True)
class Document:
    """One YAML document as JSON values."""

    line: int
    value: Any = None
    lines: dict[Location, int] = field(default_factory=dict[Location, int])
    """1-based line of every field."""
    faults: list[Fault] = field(default_factory=list[Fault])

    def line_of(self, location: Location) -> int:
        """Line of a field, or of the nearest one around it that is there."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, self.line)


class _TooLargeError(Exception):
    pass


def _line(node: Node) -> int:
    return int(cast("Any", node).start_mark.line) + 1


def _tag(node: Node) -> str:
    return str(cast("Any", node).tag).removeprefix(_TAG)


class _Builder:
    """Turns one node tree into values; counts what aliases expand to."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._values = 0

    def build(self, node: Node, location: Location) -> Any:
        self._values += 1
        if self._values > VALUES_MAX or len(location) > DEPTH_MAX:
            raise _TooLargeError
        self._document.lines.setdefault(location, _line(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, location)
        if isinstance(node, SequenceNode):
            items = cast("list[Node]", cast("Any", node).value)
            return [self.build(item, (*location, index)) for index, item in enumerate(items)]
        return self._scalar(cast("ScalarNode", node), location)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, value_node in cast("list[tuple[Node, Node]]", cast("Any", node).value):
            key = cast("Any", key_node).value if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str) or _tag(key_node) != "str":
                self._fault(key_node, location, "keys are plain strings; quote this one")
                continue
            place = (*location, key)
            if key in out:
                first = self._document.lines[place]
                self._fault(key_node, place, f"given twice; first on line {first}")
                continue
            self._document.lines[place] = _line(key_node)
            out[key] = self.build(value_node, place)
        return out

    def _scalar(self, node: ScalarNode, location: Location) -> Any:
        text = str(cast("Any", node).value)
        tag = _tag(node)
        try:
            match tag:
                case "str" | "timestamp":
                    text.encode()  # A lone surrogate, written as an escape, is no text.
                    return text
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text.replace("_", ""), 0 if text[:2].lower() in _BASES else 10)
                case "float":
                    return self._float(node, text, location)
                case _:
                    self._fault(node, location, f"the tag {tag} is not accepted")
        except ValueError:
            self._fault(node, location, "a number that cannot be read; quote it if it is text")
        return None

    def _float(self, node: ScalarNode, text: str, location: Location) -> float | None:
        value = float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(value):
            self._fault(node, location, "numbers are finite")
            return None
        return value

    def _fault(self, node: Node, location: Location, message: str) -> None:
        self._document.faults.append(Fault(_line(node), location, message))


_BASES = ("0x", "0o")


def _nodes(text: str) -> Iterator[Node | None]:
    yaml = YAML(typ="safe", pure=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Reused anchors: legal YAML 1.2.
        yield from cast("Any", yaml).compose_all(text)


def _yaml_fault(error: Exception) -> Fault:
    line = None
    message = "malformed YAML"
    if isinstance(error, MarkedYAMLError):
        marked = cast("Any", error)
        mark = marked.problem_mark or marked.context_mark
        line = None if mark is None else int(mark.line) + 1
        reason = " ".join(str(text) for text in (marked.context, marked.problem) if text)
        message = f"malformed YAML: {reason}" if reason else message
    elif isinstance(error, RecursionError):
        message = "malformed YAML: nested too deeply"
    elif isinstance(error, YAMLError):
        message = f"malformed YAML: {str(error).splitlines()[0]}"
    return Fault(line, (), message)


@lru_cache(maxsize=64)
def read_documents(data: bytes) -> tuple[list[Document], list[Fault]]:
    """Read all documents of one file.

    Reading takes about 0.5 ms a line, so the latest files are remembered by their content: an edit
    of one policy does not read a classification of 20,000 lines anew. The answer is not to be changed.

    Returns:
        The documents that could be read (their own faults inside), and what ended the reading.
    """
    if len(data) > FILE_BYTES_MAX:
        return [], [Fault(None, (), f"larger than {FILE_BYTES_MAX // 1024 // 1024} MiB")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], [Fault(None, (), "not UTF-8 text")]
    documents: list[Document] = []
    try:
        for node in _nodes(text):
            if node is None:
                continue
            document = Document(line=_line(node))
            try:
                document.value = _Builder(document).build(node, ())
            except (_TooLargeError, RecursionError):
                limit = f"more than {VALUES_MAX} values or {DEPTH_MAX} levels, aliases expanded"
                document.faults.append(Fault(document.line, (), limit))
            if document.value is not None or document.faults:
                documents.append(document)
    except (YAMLError, RecursionError, ValueError, AttributeError, TypeError) as error:
        return documents, [_yaml_fault(error)]
    return documents, []
