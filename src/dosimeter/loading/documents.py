"""YAML without its traps: plain data only, bounded in size, depth and aliases, no key twice, errors with their place."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dosimeter.core.errors import InputError
from dosimeter.loading.sources import open_regular, shown, size_text

_MOST_BYTES = 256 * 1024
_MOST_DEPTH = 40
_MOST_NODES = 20_000
_MOST_NUMBER_CHARACTERS = 100
_UNUSED_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set"))
_NUMBER_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


def load_yaml(source: Path | str) -> Any:
    """The one document in the file ``source`` (a ``Path``) or in the text ``source`` (a ``str``).

    Numbers, strings, booleans, null, dates, lists and mappings; aliases and merges count each time they are used.

    Raises:
        InputError: unreadable or not UTF-8; more than 256 KiB, 40 levels or 20,000 values after aliases; a key twice;
            a tag that would build an object; any mistake of syntax. The message has line and column.
    """
    if isinstance(source, Path):
        name = shown(source)
        with open_regular(source, what="a YAML document", max_bytes=_MOST_BYTES) as file:
            data = file.read()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise InputError(
                f"{name}, line {line}: byte {data[error.start]:#04x} is not UTF-8. Save it as UTF-8."
            ) from None
    else:
        name, text = "the YAML text", source
        if len(text) > _MOST_BYTES:
            raise InputError(f"{name} is longer than {size_text(_MOST_BYTES)}. Keep only what is needed.")
    return _parse(name, text)


def _parse(name: str, text: str) -> Any:
    try:
        loader = _BoundedLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise InputError(f"{name} holds no document. Write one, for example with: dosimeter init")
            _expanded_size(node, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{name}{place}: {_explained(error)}.") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise InputError(
            f"{name}, line {line}: character {shown(repr(chr(error.character)))} is not allowed in YAML. Remove it."
        ) from None


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "could not determine a constructor" in problem:
        tag = problem.partition("'")[2].rstrip("'")
        return f"the tag '{shown(tag)}' is not allowed, only plain data is; remove it"
    advice = "; indent with spaces instead" if "'\\t'" in problem else ""
    return shown(", ".join(str(part) for part in (error.context, problem) if part)) + advice


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader, stopped at the first value too deep or too many, before anything is built from it."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag not in _UNUSED_TAGS
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self._depth += 1
        self._nodes += 1
        mark = self.peek_event().start_mark
        if self._depth > _MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_MOST_DEPTH} levels", problem_mark=mark)
        if self._nodes > _MOST_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {_MOST_NODES} values", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if (
            isinstance(node, ScalarNode)
            and node.tag in _NUMBER_TAGS
            and len(node.value) > _MOST_NUMBER_CHARACTERS
        ):
            problem = f"a number of {len(node.value)} characters; quote it if it is text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
            problem = f"'{shown(node.value)}' is not a valid value ({shown(error)})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error


def _expanded_size(node: Node, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Values under ``node`` with every alias written out; refuses too many, cycles and doubled keys on the way."""
    key = id(node)
    if key in open_nodes:
        raise yaml.MarkedYAMLError(problem="a value contains itself", problem_mark=node.start_mark)
    if key not in sizes:
        open_nodes.add(key)
        if isinstance(node, MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        else:
            children = node.value if isinstance(node, SequenceNode) else []
        sizes[key] = 1 + sum(_expanded_size(child, sizes, open_nodes) for child in children)
        open_nodes.discard(key)
    if sizes[key] > _MOST_NODES:
        problem = f"aliases make more than {_MOST_NODES} values of it"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return sizes[key]


def _check_keys(node: MappingNode) -> None:
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if isinstance(key, ScalarNode):
            if (key.tag, key.value) in seen:
                problem = f"the key '{shown(key.value)}' is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
