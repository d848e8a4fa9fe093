"""Reading `aetheris.yaml`: every complaint names file, line, key and what was expected.

The file is `--config`, else CONFIG_PATH, else `aetheris.yaml` in the current
folder; without one nothing is set. Anchors and aliases are refused: a file of
limits has no need of them, and they can make a small file a huge one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from aetheris.domain.errors import Refused
from aetheris.runtime.config import SECRETS, Config

DEFAULT_NAME = "aetheris.yaml"
FILE_BYTES_LIMIT = 1_000_000
DEPTH_LIMIT = 16

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from; `path` is None where there is no file."""

    config: Config
    path: Path | None = None

    @property
    def where(self) -> str:
        """For people."""
        return str(self.path) if self.path is not None else "no configuration file: nothing is set"


class Watch:
    """Tells of a file that changed. A file that can't be used leaves what was in force, and is complained of once."""

    def __init__(self, loaded: Loaded) -> None:
        self._path = loaded.path
        self._seen = _stamp(self._path)

    def changed(self) -> Config | None:
        """Return the configuration if the file changed since the last look. Errors: Refused."""
        if self._path is None or (stamp := _stamp(self._path)) == self._seen:
            return None
        self._seen = stamp
        return load(self._path).config


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Return the configuration in force. Errors: Refused, naming file, line and key."""
    environ = os.environ if environ is None else environ
    found = _find(path, environ)
    hint = "CONFIG_PATH" if path is None and environ.get("CONFIG_PATH") else "--config"
    data, lines = ({}, {}) if found is None else _read(found, hint)
    overridden = _override(data, environ)
    try:
        loaded = Loaded(Config.model_validate(data), found)
    except ValidationError as error:
        raise Refused(_complaint(error, found, lines, overridden)) from None
    if loaded.config.dsn:
        from aetheris.store.database import check_dsn  # brings psycopg, which a file without a DSN doesn't need

        key = "jobstore.dsn"
        check_dsn(loaded.config.dsn, overridden.get(key) or f"{found}:{lines[tuple(key.split('.'))]}: {key}")
    return loaded


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or (Path(environ["CONFIG_PATH"]) if environ.get("CONFIG_PATH") else None)
    if named is not None:
        return named
    default = Path(DEFAULT_NAME)
    return default if default.is_file() else None


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(path: Path, hint: str) -> tuple[dict[str, Any], dict[Place, int]]:
    """Return the file as plain values, and the line of each key. `hint` says where another is named."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or str(error)).lower()}; name a file with {hint}") from None
    if len(data) > FILE_BYTES_LIMIT:
        raise Refused(f"{path}: {len(data):,} bytes, more than {FILE_BYTES_LIMIT:,}")
    try:
        text = data.decode("utf-8")
        root = yaml.compose(text, Loader=_Loader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Refused(f"{path}:{line}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Refused(f"{path}:{mark.line + 1 if mark else 1}: not YAML ({error.problem})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise Refused(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if root is None:
        return {}, {}
    lines: dict[Place, int] = {}
    value = _value(root, (), lines, path)
    if not isinstance(value, dict):
        raise Refused(f"{path}:1: expected keys such as `rate_limits:`, found {type(value).__name__}")
    return value, lines


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases are not used here; write it out", problem_mark=mark)
        return super().compose_node(parent, index)


def _value(node: Any, place: Place, lines: dict[Place, int], path: Path) -> Any:
    if len(place) > DEPTH_LIMIT:
        raise Refused(f"{path}:{node.start_mark.line + 1}: nested deeper than {DEPTH_LIMIT} levels")
    if isinstance(node, yaml.ScalarNode):
        try:
            value = yaml.SafeLoader("").construct_object(node)
            str(value).encode()  # what no complaint could show and no digest hold is refused here
            return value
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # a tag that doesn't fit raises any of them
            raise Refused(f"{path}:{node.start_mark.line + 1}: `{node.value[:60]}` can't be read as a value") from None
    if isinstance(node, yaml.SequenceNode):
        return [_value(n, (*place, str(i)), lines, path) for i, n in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise Refused(f"{path}:{line}: a key must be a word")
        key = key_node.value
        if key in found:
            raise Refused(f"{path}:{line}: {'.'.join((*place, key))} stands twice, first on line {lines[*place, key]}")
        lines[*place, key] = line
        found[key] = _value(value_node, (*place, key), lines, path)
    return {k: v for k, v in found.items() if v is not None}


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put secrets from the environment in their places; return key -> variable."""
    done: dict[str, str] = {}
    for variable, key in SECRETS.items():
        if value := environ.get(variable):
            *above, last = key.split(".")
            section = data
            for name in above:
                below = section.setdefault(name, {})
                if not isinstance(below, dict):
                    return done  # the complaint about the section comes first
                section = below
            section[last] = value
            done[key] = variable
    return done


def _complaint(
    error: ValidationError, path: Path | None, lines: dict[Place, int], overridden: Mapping[str, str]
) -> str:
    first = error.errors()[0]
    place = tuple(str(p) for p in first["loc"])
    key = ".".join(place)
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
    where = overridden.get(key, f"{path}:{line}")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    shown = key.removesuffix(".[key]").encode("unicode_escape").decode("ascii")
    return f"{where}: {shown}: {' '.join(_expected(first, place).split())}{more}"


def _expected(first: Any, place: Place) -> str:
    # What stands before the @ of an address may be a password.
    given = re.sub(r"://[^/@\s]*@", "://***@", str(first["input"]))[:60]
    key = ".".join(place)
    if any(f"{secret}.".startswith(f"{key}.") for secret in SECRETS.values()):
        given = "***"  # it stands where a secret belongs, or a section with one in it
    match first["type"]:
        case "extra_forbidden":
            known = _known(place[:-1])
            near = difflib.get_close_matches(place[-1], known, 1)
            return f"no such key; did you mean {near[0]}?" if near else f"no such key; known here: {', '.join(known)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"expected keys below it ({', '.join(_known(place)) or 'names'}), found `{given}`"
        case "missing":
            return "is not there, and must be"
        case "value_error" if isinstance(first["input"], dict):
            return str(first["ctx"]["error"])
        case "value_error":
            return f"{first['ctx']['error']}, found `{given}`"
        case "string_pattern_mismatch":
            return "expected a name of up to 200 ASCII characters without spaces"
        case "literal_error":
            return f"expected {first['ctx']['expected']}, found `{given}`"
        case _:
            said = first["msg"].removeprefix("Input should be ")
            return f"expected {said}, found `{given}`"


def _known(place: Place) -> list[str]:
    """Return the keys that may stand at `place`; none where names are free."""
    at: Any = Config
    for name in place:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(name)
            at = field.annotation if field is not None else None
        elif get_origin(at) is dict:
            at = get_args(at)[1]
        else:
            return []
    return sorted(at.model_fields) if isinstance(at, type) and issubclass(at, BaseModel) else []
