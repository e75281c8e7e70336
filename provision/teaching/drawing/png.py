"""Render a drawing as PNG with Pillow and its built-in font.

Pillow does not smooth the edges of shapes, so the image is painted larger and scaled down.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from itertools import pairwise

from PIL import Image, ImageColor, ImageDraw, ImageFont

from provision.teaching.drawing import Arrow, Drawing, Rectangle, Words
from provision.teaching.drawing.svg import DASHES, HEAD_LENGTH, HEAD_WIDTH, WIRE_WIDTH

SCALE = 2
"""Factor by which the image is painted larger."""


def png(drawing: Drawing, width: int) -> bytes:
    """The content of the file; ``width`` is in pixels, the height follows."""
    height = round(drawing.height * width / drawing.width)
    image = Image.new("RGB", (width * SCALE, height * SCALE), "#ffffff")
    painter = _Painter(ImageDraw.Draw(image), width * SCALE / drawing.width)
    for shape in drawing.shapes:
        if isinstance(shape, Rectangle):
            painter.rectangle(shape)
        elif isinstance(shape, Arrow):
            painter.arrow(shape)
        else:
            painter.words(shape)
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


class _Painter:
    """Paints shapes at a scale."""

    def __init__(self, canvas: ImageDraw.ImageDraw, scale: float) -> None:
        self.canvas = canvas
        self.scale = scale
        self.fonts: dict[float, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def rectangle(self, shape: Rectangle) -> None:
        """A filled area."""
        scale = self.scale
        self.canvas.rounded_rectangle(
            (
                shape.x * scale,
                shape.y * scale,
                (shape.x + shape.width) * scale - 1,
                (shape.y + shape.height) * scale - 1,
            ),
            shape.radius * scale,
            fill=shape.fill,
            outline=shape.border or None,
            width=round(2 * scale) if shape.border else 0,
        )

    def arrow(self, shape: Arrow) -> None:
        """A line, and a head in the direction of its last segment."""
        (x1, y1), (x2, y2) = shape.points[-2:]
        along = math.atan2(y2 - y1, x2 - x1)
        back_x, back_y = x2 - HEAD_LENGTH * math.cos(along), y2 - HEAD_LENGTH * math.sin(along)
        side_x, side_y = math.sin(along) * HEAD_WIDTH / 2, -math.cos(along) * HEAD_WIDTH / 2
        line = [*shape.points[:-1], (back_x, back_y)]
        for part in _dashes(line) if shape.dashed else [line]:
            points = [(x * self.scale, y * self.scale) for x, y in part]
            self.canvas.line(
                points, fill=shape.color, width=round(WIRE_WIDTH * self.scale), joint="curve"
            )
        head = [(x2, y2), (back_x + side_x, back_y + side_y), (back_x - side_x, back_y - side_y)]
        self.canvas.polygon(
            [(x * self.scale, y * self.scale) for x, y in head],
            fill=ImageColor.getrgb(shape.color),
        )

    def words(self, shape: Words) -> None:
        """A line of text; Pillow's font has one weight, so bold is a thicker stroke."""
        size = shape.size * self.scale
        font = self.fonts.setdefault(size, ImageFont.load_default(size))
        pen, apart = (size / 32, size / 24) if shape.bold else (0.0, 0.0)
        text = shape.text
        x = shape.x * self.scale
        if not shape.left:
            x -= (font.getlength(text) + apart * (len(text) - 1)) / 2
        pieces = enumerate(text) if shape.bold else [(0, text)]
        for place, piece in pieces:
            at = (x + font.getlength(text[:place]) + apart * place, shape.y * self.scale)
            self.canvas.text(at, piece, fill=shape.color, font=font, anchor="ls", stroke_width=pen)


def _dashes(
    points: list[tuple[float, float]],
) -> Iterator[list[tuple[float, float]]]:
    """A line as dashes; each segment begins with one."""
    drawn, left_out = DASHES
    for (x1, y1), (x2, y2) in pairwise(points):
        length = math.dist((x1, y1), (x2, y2))
        done = 0.0
        while done < length:
            end = min(done + drawn, length)
            yield [
                (x1 + (x2 - x1) * at / length, y1 + (y2 - y1) * at / length) for at in (done, end)
            ]
            done += drawn + left_out
