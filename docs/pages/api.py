"""docs/api.md: the services of proto/, with what their comments say.

protoc reads the schema, so this knows nothing of its syntax: it walks through descriptors and the comments beside them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from docs.pages.text import anchor, escape, fill, notice
from gossip_grpc.config import SETTINGS

ORDER = ("kv", "counter", "set", "event", "cluster", "common", "peer")
"""The files below proto/gossip/v1, first what one needs first; `peer` is for nodes alone."""

_PACKAGE = "gossip.v1"

_HEAD = f"""\
# API reference

{notice("the comments in proto/gossip/v1")}
All that a node answers, as package `{_PACKAGE}`. Clients ask at the client port (7947).
[`PeerService`](#peerservice) is what nodes say to each other at the peer port (7946), and not for clients.

A field reads `name` (type, number): what it means. One that is left out of a message has the default of its type: 0,
false, empty. Errors are gRPC statuses with `google.rpc.ErrorInfo` in their details, whose `reason` is for programs and
whose domain is `gossip-grpc`; where a field is to blame, `google.rpc.BadRequest` names it.

The node describes itself by reflection, so `grpcurl -plaintext 127.0.0.1:7947 describe` needs no files. To generate
stubs take those in [`proto/`](../proto/gossip/v1); [clients in other languages](clients.md) shows how they are used.

"""

_NODES_ONLY = """\
**Node to node, not for clients.** This part may change with the protocol's version in any release, and whoever reaches
the peer port is trusted as a node is. [The protocol](protocol.md) says how nodes use it.
"""

_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in FieldDescriptorProto.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_ENUM", "TYPE_GROUP")
}

# Places in a file, as source info spells them: field numbers of descriptor.proto.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _ONEOFS, _VALUES, _METHODS = 2, 8, 2, 2

_SETTING = re.compile(r"(?<=node's )`(\w+)`|(?<=setting )`(\w+)`")


def markdown(schema: Path) -> str:
    """The text of docs/api.md for a directory such as proto/.

    Raises:
        ValueError: A file of the schema has no place in `ORDER`, or something in it has no comment.
    """
    return _Page(_described(schema)).text()


def _described(schema: Path) -> FileDescriptorSet:
    """The schema with its comments, read by the pinned protoc."""
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory) / "schema.binpb"
        subprocess.run([sys.executable, schema / "generate.py", "--descriptors", found], check=True)
        return FileDescriptorSet.FromString(found.read_bytes())


class _Page:
    """One walk through the schema."""

    def __init__(self, described: FileDescriptorSet) -> None:
        files = {Path(file.name).stem: file for file in described.file if file.package == _PACKAGE}
        if strangers := sorted(files.keys() ^ set(ORDER)):
            raise ValueError(f"docs/pages/api.py: ORDER and the schema differ in {', '.join(strangers)}")
        self._files = [files[stem] for stem in ORDER]
        self._comments = {
            (file.name, *location.path): location.leading_comments.strip()
            for file in self._files
            for location in file.source_code_info.location
        }
        self._messages = {
            f".{_PACKAGE}.{message.name}": (file, number, message)
            for file in self._files
            for number, message in enumerate(file.message_type)
        }
        self._types = {message.name for file in self._files for message in file.message_type}
        self._types |= {enum.name for file in self._files for enum in file.enum_type}
        self._services = {service.name for file in self._files for service in file.service}
        self._methods = {
            f"{service.name}.{method.name}"
            for file in self._files
            for service in file.service
            for method in service.method
        }

    def text(self) -> str:
        """The page."""
        parts = [_HEAD, self._contents()]
        for file in self._files:
            parts += self._file(file)
        return re.sub(r"\n{3,}", "\n\n", "".join(parts)).rstrip() + "\n"

    def _contents(self) -> str:
        """A line for each service, with its RPCs."""
        lines = []
        for file in self._files:
            for service in file.service:
                methods = [f"[{method.name}](#{anchor(f'{service.name}.{method.name}')})" for method in service.method]
                lines.append(fill(f"- [{service.name}](#{anchor(service.name)}): {', '.join(methods)}"))
        return "\n".join(lines) + "\n\n"

    def _file(self, file: FileDescriptorProto) -> Iterator[str]:
        """A section for the service of a file and what belongs to it; of a file without one, for its types."""
        told = set()
        if not file.service:
            yield f"## Common types\n\n{self._source(file)}\n\n"
        for number, service in enumerate(file.service):
            yield f"## {service.name}\n\n{self._source(file)}\n\n"
            if Path(file.name).stem == "peer":
                yield f"{_NODES_ONLY}\n"
            yield self._deprecated(service) + self._prose((file.name, _SERVICES, number), service.name)
            for place, method in enumerate(service.method):
                yield self._method((file.name, _SERVICES, number, _METHODS, place), service, method)
                for name in (method.input_type, method.output_type):
                    if name in self._messages and name not in told:
                        told.add(name)
                        yield self._message(*self._messages[name], level=4)
        for number, message in enumerate(file.message_type):
            if f".{_PACKAGE}.{message.name}" not in told:
                yield self._message(file, number, message, level=3)
        for number, enum in enumerate(file.enum_type):
            yield self._enum(file, number, enum)

    def _source(self, file: FileDescriptorProto) -> str:
        return f"In [`{file.name}`](../proto/{file.name})."

    def _method(
        self, place: tuple[str | int, ...], service: ServiceDescriptorProto, method: MethodDescriptorProto
    ) -> str:
        name = f"{service.name}.{method.name}"
        takes = ("a stream of " if method.client_streaming else "") + self._type(method.input_type)
        answers = ("a stream of " if method.server_streaming else "") + self._type(method.output_type)
        return (
            f"### {name}\n\n{self._deprecated(method)}{self._prose(place, name)}"
            + fill(f"- request: {takes}")
            + "\n"
            + fill(f"- response: {answers}")
            + f"\n- name on the wire: `{_PACKAGE}.{service.name}/{method.name}`\n\n"
        )

    def _message(self, file: FileDescriptorProto, number: int, message: DescriptorProto, *, level: int) -> str:
        """A heading, the comment and the fields. Below its RPC a request is not told to be one."""
        place = (file.name, _MESSAGES, number)
        parts = [f"{'#' * level} {message.name}\n\n", self._deprecated(message)]
        if level == 3 or not re.fullmatch(r"(Request|Response) of \w+\.", self._comment(place)):
            parts.append(self._prose(place, message.name))
        maps = {f".{_PACKAGE}.{message.name}.{nested.name}": nested for nested in message.nested_type}
        last = None
        for position, field in enumerate(message.field):
            group = field.oneof_index if field.HasField("oneof_index") and not field.proto3_optional else None
            if group is not None and group != last:
                where = (*place, _ONEOFS, group)
                parts.append(self._item(0, f"one of these, `{message.oneof_decl[group].name}`", where, message.name))
            last = group
            parts.append(
                self._item(
                    0 if group is None else 4, self._field(field, maps), (*place, _FIELDS, position), message.name
                )
            )
        if not message.field:
            parts.append("No fields.\n")
        gone = [*(f"{gap.start}" for gap in message.reserved_range), *(f"`{name}`" for name in message.reserved_name)]
        if gone:
            parts.append(f"\nNot to be used again: {', '.join(gone)}.\n")
        return "".join(parts) + "\n"

    def _field(self, field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
        """What stands before the comment of a field."""
        if field.type_name in maps:
            key, value = maps[field.type_name].field
            kind = f"map from {self._kind(key)} to {self._kind(value)}"
        else:
            repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
            kind = ("repeated " if repeated else "optional " if field.proto3_optional else "") + self._kind(field)
        mark = ", **deprecated**" if field.options.deprecated else ""
        return f"`{field.name}` ({kind}, {field.number}{mark})"

    def _kind(self, field: FieldDescriptorProto) -> str:
        return self._type(field.type_name) if field.type_name else _SCALARS[field.type]

    def _type(self, name: str) -> str:
        short = name.removeprefix(f".{_PACKAGE}.")
        return f"[{short}](#{anchor(short)})" if short in self._types else f"`{short.lstrip('.')}`"

    def _enum(self, file: FileDescriptorProto, number: int, enum: EnumDescriptorProto) -> str:
        place = (file.name, _ENUMS, number)
        parts = [f"### {enum.name}\n\n", self._deprecated(enum), self._prose(place, enum.name)]
        for position, value in enumerate(enum.value):
            mark = ", **deprecated**" if value.options.deprecated else ""
            parts.append(
                self._item(0, f"`{value.name}` ({value.number}{mark})", (*place, _VALUES, position), enum.name)
            )
        return "".join(parts) + "\n"

    def _deprecated(
        self, what: ServiceDescriptorProto | MethodDescriptorProto | DescriptorProto | EnumDescriptorProto
    ) -> str:
        return "**Deprecated.**\n\n" if what.options.deprecated else ""

    def _comment(self, place: tuple[str | int, ...]) -> str:
        comment = self._comments.get(place, "")
        if not comment:
            raise ValueError(f"docs/pages/api.py: something in {place[0]} has no comment, at {place[1:]}")
        return comment

    def _prose(self, place: tuple[str | int, ...], here: str) -> str:
        """A comment as paragraphs."""
        return "".join(f"{part}\n\n" for part in self._paragraphs(self._comment(place), here, 0))

    def _item(self, indent: int, what: str, place: tuple[str | int, ...], here: str) -> str:
        """A comment as a list item; what follows its first paragraph is indented as both Markdowns want it."""
        first, *more = re.split(r"\n\s*\n", self._comment(place))
        text = fill(f"- {what}: {self._linked(' '.join(first.split()), here)}", indent) + "\n"
        for part in self._paragraphs("\n\n".join(more), here, indent + 4):
            text += f"\n{part}\n"
        return text

    def _paragraphs(self, comment: str, here: str, indent: int) -> Iterator[str]:
        """The paragraphs of a comment; one that is a list keeps its lines."""
        for paragraph in re.split(r"\n\s*\n", comment.strip()):
            items = re.split(r"\n(?=\s*- )", paragraph) if re.match(r"\s*- ", paragraph) else [paragraph]
            if any(item.strip() for item in items):
                yield "\n".join(fill(self._linked(" ".join(item.split()), here), indent) for item in items)

    def _linked(self, text: str, here: str) -> str:
        """Text for Markdown: `code` stays, names of the schema become links, and what would be markup is escaped."""
        parts = re.split(r"(`[^`]*`)", _SETTING.sub(_link_setting, escape(text)))
        return "".join(self._code(part, here) if part.startswith("`") else self._plain(part, here) for part in parts)

    def _code(self, code: str, here: str) -> str:
        name = code.strip("`")
        owner = here.partition(".")[0]
        for known in (name, f"{owner}.{name}"):
            if known in self._types | self._services | self._methods and known not in (here, owner):
                return f"[{code}](#{anchor(known)})"
        return code

    def _plain(self, text: str, here: str) -> str:
        # `Watch of KeyValueService` is a method; names that are words of English too are links only in backquotes.
        return re.sub(r"\b(?:(\w+) of )?([A-Z]+[a-z]+[A-Z]\w*)\b", lambda found: self._name(found, here), text)

    def _name(self, found: re.Match[str], here: str) -> str:
        method, name = found.groups()
        if f"{name}.{method}" in self._methods:
            return f"[{found[0]}](#{anchor(f'{name}.{method}')})"
        if name in self._types | self._services and name != here.partition(".")[0]:
            before = found[0][: -len(name)]
            return f"{before}[{name}](#{anchor(name)})"
        return found[0]


def _link_setting(found: re.Match[str]) -> str:
    """A setting of the node becomes a link to what docs/configuration.md says of it."""
    name = found[1] or found[2]
    return f"[{found[0]}](configuration.md#{name})" if name in SETTINGS else found[0]
