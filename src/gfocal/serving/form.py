"""The files of a multipart form, in memory.

Starlette's own reading of forms takes a part without a file name for text, and drops the last part of a form that
ends too early.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

MAX_HEADER = 16_384  # bytes of the headers of a part


class FormError(Exception):
    """A form that is broken, or has too many parts."""


class TooManyPartsError(FormError):
    """A form with more parts than are wanted."""


@dataclass
class Part:
    """A field of a form."""

    name: str = ""
    filename: str = ""
    content: bytearray = field(default_factory=bytearray)


class Form:
    """A form that arrives in pieces.

    Args:
        content_type: the header of the request, which has the boundary.
        max_parts: more are refused.

    Raises:
        FormError: the header has no boundary.
    """

    def __init__(self, content_type: str, max_parts: int) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise FormError("its content type has no boundary")
        self.parts: list[Part] = []
        self.max_parts, self.is_whole = max_parts, False
        self.header = self.value = self.disposition = b""
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._name,
                    "on_part_data": self._add_content,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise FormError(str(error)) from error

    def feed(self, piece: bytes) -> None:
        """Take a piece. Raises FormError."""
        try:
            self.parser.write(piece)
        except FormParserError as error:
            raise FormError(str(error)) from error

    def finish(self) -> list[Part]:
        """All parts. Raises FormError where the form has no end."""
        if not self.is_whole:
            raise FormError("it ends before its closing boundary")
        return self.parts

    def _begin(self) -> None:
        if len(self.parts) == self.max_parts:
            raise TooManyPartsError("too many parts")
        self.parts.append(Part())
        self.header = self.value = self.disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]
        self._check_header()

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self.header) + len(self.value) > MAX_HEADER:
            raise FormError("a header of a part is too long")

    def _end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value
        self.header = self.value = b""

    def _name(self) -> None:
        options = parse_options_header(self.disposition)[1]
        self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
        self.parts[-1].filename = options.get(b"filename", b"").decode("utf-8", "replace")

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += data[start:end]

    def _end(self) -> None:
        self.is_whole = True
