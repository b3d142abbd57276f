"""XML with the line of each element. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat


@dataclass
class Element:
    """An element: its tag, line (from 1), text without the blanks around it, and children."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """The children with a tag."""
        return [child for child in self.children if child.tag == tag]

    def one(self, tag: str) -> Element | None:
        """The first child with a tag."""
        return next(iter(self.all(tag)), None)


class MalformedError(Exception):
    """The text is not XML; line: where, from 1."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


def parse(data: bytes) -> Element:
    """The root element. Raises MalformedError, also for a text that defines entities."""
    parser = expat.ParserCreate()
    top = Element("", 0)
    path = [top]

    def start(tag: str, _: object) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        path[-1].children.append(element)
        path.append(element)

    def end(_: str) -> None:
        path[-1].text = path[-1].text.strip()
        path.pop()

    def text(part: str) -> None:
        path[-1].text += part

    def entity(*_: object) -> None:
        raise MalformedError("it defines entities, which no annotation needs",
                             parser.CurrentLineNumber)  # fmt: skip

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise MalformedError(expat.ErrorString(error.code), error.lineno) from error
    except (LookupError, ValueError) as error:  # an encoding that Python or expat does not know
        raise MalformedError(str(error), 1) from error
    return top.children[0]
