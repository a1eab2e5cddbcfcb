"""What the collector was sent, as it prints it."""

import re
from dataclasses import dataclass, field

RESOURCE = re.compile(r"Resource(Spans|Metrics?|Logs?) #\d+$")
ITEM = re.compile(r"(Span|Metric|LogRecord) #\d+$")
FIELD = re.compile(r"\s*([A-Z][\w ]*?)\s*: ?(.*)$")
ENTRY = re.compile(r"\s*-> ([^:]+): ?(.*)$")
VALUE = re.compile(r"(?:Str|Bool|Int|Double)\((.*)\)$")


@dataclass
class Item:
    """a span, a metric or a log record"""

    kind: str
    resource: dict[str, str]
    fields: dict[str, str] = field(default_factory=dict)
    # of a metric those of its data points
    attributes: dict[str, set[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.fields.get("Name", "")

    @property
    def trace(self) -> str:
        return self.fields.get("Trace ID", "")

    def attribute(self, name: str) -> str | None:
        """of what has but one of each"""
        return next(iter(self.attributes.get(name, ())), None)


def plain(value: str) -> str:
    found = VALUE.match(value)
    return found[1] if found else value


def items(text: str) -> list[Item]:
    found: list[Item] = []
    resource: dict[str, str] = {}
    item, header = None, ""
    for line in text.splitlines():
        if RESOURCE.match(line):
            resource, item, header = {}, None, ""
        elif one := ITEM.match(line):
            item, header = Item(one[1], resource), ""
            found.append(item)
        elif entry := ENTRY.match(line):
            name, value = entry[1], plain(entry[2])
            if header == "Resource attributes":
                resource[name] = value
            elif header == "Descriptor" and item:
                item.fields.setdefault(name, value)
            elif header in ("Attributes", "Data point attributes") and item:
                item.attributes.setdefault(name, set()).add(value)
        elif one := FIELD.match(line):
            name, value = one[1], one[2]
            if not value:
                header = name
            elif item:
                item.fields.setdefault(name, plain(value))
    return found
