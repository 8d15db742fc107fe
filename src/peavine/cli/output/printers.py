"""`-o`: which printer an output format means, for commands that print whole objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.cli.output.tables import align

if TYPE_CHECKING:
    from typing import TextIO

Object = dict[str, Any]
Printer = Callable[[Object, "TextIO"], None]

FORMATS = (
    "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,"
    "name,template,templatefile,wide,yaml"
)


def printer_for(flags: Parsed, *, formats: str = FORMATS) -> Printer | None:
    """The printer of `-o`, or None for a table. Raises CliError for a format that there is not."""
    chosen = flags.get("output") or ("go-template" if flags.get("template") else "")
    name, equals, argument = chosen.partition("=")
    keep_managed = bool(flags.get("show-managed-fields"))
    missing = bool(flags.get("allow-missing-template-keys", True))
    if not chosen or chosen == "wide":
        return None
    if name in ("json", "yaml") and not equals:
        from peavine.cli.output.documents import to_json, to_yaml

        return _DocumentPrinter(to_json if name == "json" else to_yaml, keep_managed)
    if name == "kyaml" and not equals:
        from peavine.cli.output.kyaml import to_kyaml

        return _DocumentPrinter(to_kyaml, keep_managed)
    if name == "name" and not equals:
        return print_name
    argument = argument or flags.get("template") or ""
    if name in ("jsonpath-file", "go-template-file", "templatefile", "custom-columns-file"):
        try:
            with open(argument) as file:
                argument = file.read()
        except OSError as error:
            what = "template" if name == "custom-columns-file" else "--template"
            raise CliError(
                f"error reading {what} {argument}, open {argument}: {(error.strerror or '').lower()}"
            ) from None
    if name in ("jsonpath", "jsonpath-as-json", "jsonpath-file"):
        if not argument:
            raise CliError("template format specified but no template given")
        return _jsonpath(argument, missing, name == "jsonpath-as-json")
    if name in ("go-template", "go-template-file", "template", "templatefile"):
        from peavine.cli.output.gotemplate import Template

        if not argument:
            raise CliError("template format specified but no template given")
        template = Template(argument)

        def print_template(obj: Object, out: TextIO) -> None:
            out.write(for_person(template.render(without_managed(obj, keep_managed)), out))

        return print_template
    if name in ("custom-columns", "custom-columns-file"):
        if not argument:
            raise CliError("custom-columns format specified but no custom columns given")
        return CustomColumns(argument, no_headers=bool(flags.get("no-headers")), from_file=name.endswith("file"))
    raise CliError(
        f'unable to match a printer suitable for the output format "{chosen}", allowed formats are: {formats}'
    )


def for_person(text: str, out: TextIO) -> str:
    """Text of the cluster as it is for a program, without escape sequences for a terminal."""
    if not out.isatty():
        return text
    from peavine.cli.failures import printable

    return printable(text)


def without_managed(obj: Object, keep: bool = False) -> Object:
    """The object without the book-keeping of server-side apply."""
    if keep or not isinstance(obj, dict):
        return obj
    meta = obj.get("metadata")
    if isinstance(meta, dict) and "managedFields" in meta:
        obj = {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}
    if isinstance(obj.get("items"), list) and obj.get("kind", "").endswith("List"):
        obj = {**obj, "items": [without_managed(item) for item in obj["items"]]}
    return obj


def print_typed_json(obj: Object, out: TextIO) -> None:
    """JSON of an object that this program made, not the server: fields in the order of its Go type."""
    from peavine.cli.output.documents import to_typed_json
    from peavine.machinery.names import GVK, split_group_version
    from peavine.machinery.schema import Schema

    group, version = split_group_version(obj.get("apiVersion", ""))
    type = Schema.load().for_kind(GVK(group, version, obj.get("kind", "")))
    out.write(to_typed_json(without_managed(obj), type))


class _DocumentPrinter:
    def __init__(self, form: Callable[[Any], str], keep_managed: bool) -> None:
        self.form, self.keep_managed, self.count = form, keep_managed, 0
        self.separated = form.__name__ == "to_yaml"

    def __call__(self, obj: Object, out: TextIO) -> None:
        self.count += 1
        if self.count > 1 and self.separated:
            out.write("---\n")
        out.write(self.form(without_managed(obj, self.keep_managed)))


def print_name(obj: Object, out: TextIO) -> None:
    """`pod/web`, one line an object."""
    if obj.get("kind", "").endswith("List") and isinstance(obj.get("items"), list):
        for item in obj["items"]:
            print_name(item, out)
        return
    group = obj.get("apiVersion", "").rpartition("/")[0]
    kind = obj.get("kind", "").lower() + (f".{group}" if group else "")
    out.write(f"{kind}/{(obj.get('metadata') or {}).get('name') or '<unknown>'}\n")


def _jsonpath(template: str, missing: bool, as_json: bool) -> Printer:
    from peavine.machinery.jsonpath import JsonPath, JsonPathError

    try:
        path = JsonPath(template, allow_missing_keys=missing)
    except JsonPathError as error:
        raise CliError(f"error parsing jsonpath {template}, {error}") from None

    from peavine.cli.output.documents import to_json

    def print_path(obj: Object, out: TextIO) -> None:
        try:
            out.write(to_json(path.find(obj)) if as_json else for_person(path.render(obj), out))
        except JsonPathError as error:
            raise CliError(f"error executing jsonpath {template!r}: Error executing template: {error}.") from None

    return print_path


class CustomColumns:
    """`NAME:.metadata.name,…`: a table of one's own."""

    def __init__(self, spec: str, *, no_headers: bool, from_file: bool = False) -> None:
        from peavine.machinery.jsonpath import JsonPath, JsonPathError, relaxed

        if from_file:
            lines = spec.splitlines()
            if len(lines) < 2:
                raise CliError("invalid template, missing headers")
            spec = ",".join(f"{a}:{b}" for a, b in zip(lines[0].split(), lines[1].split(), strict=False))
        self.columns: list[tuple[str, JsonPath]] = []
        for part in spec.split(","):
            name, colon, path = part.partition(":")
            if not colon:
                raise CliError(f"unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")
            try:
                self.columns.append((name, JsonPath(relaxed(path))))
            except JsonPathError as error:
                raise CliError(str(error)) from None
        self.headers = not no_headers

    def __call__(self, obj: Object, out: TextIO) -> None:
        rows = [[name for name, _ in self.columns]] if self.headers else []
        self.headers = False
        is_list = obj.get("kind", "").endswith("List") and isinstance(obj.get("items"), list)
        for item in obj["items"] if is_list else [obj]:
            rows.append([",".join(map(_cell, path.find(item))) or "<none>" for _, path in self.columns])
        lines = "\n".join("\t".join(row) for row in rows).split("\n")  # a value of several lines breaks the table
        out.write(align([line.split("\t") for line in lines], padding=3, width_min=6))


def _cell(value: Any) -> str:
    from peavine.machinery.jsonpath import show

    if value is None:
        return "<nil>"
    return _go_value(value) if isinstance(value, (dict, list)) else show(value)


def _go_value(value: Any) -> str:
    """A value as Go's %v prints it: `map[a:b]`, `[x y]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go_value(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go_value, value)) + "]"
    from peavine.machinery.jsonpath import show

    return "<nil>" if value is None else show(value)


def sort_key(template: str) -> Callable[[Object], Any]:
    """What `--sort-by` sorts by: numbers and quantities as such, else natural text; objects without the field first."""
    from peavine.machinery.jsonpath import JsonPath, JsonPathError, relaxed

    try:
        path = JsonPath(relaxed(template))
    except JsonPathError as error:
        raise CliError(str(error)) from None

    def key(obj: Object) -> tuple[Any, ...]:
        import re

        from peavine.machinery.quantity import QuantityError, parse_quantity

        found = path.find(obj)
        if not found or found[0] is None:
            return (0,)
        value = found[0]
        if isinstance(value, (int, float)):
            return (1, value)
        text = str(value)
        try:
            return (1, parse_quantity(text).nanos / 1e9)
        except QuantityError:
            return (2, [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text.lower()) if p])

    return key
