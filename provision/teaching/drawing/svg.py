"""Render a drawing as SVG 1.1: one file without scripts or external fonts."""

from __future__ import annotations

from html import escape

from provision.teaching.drawing import INK, Arrow, Drawing, Rectangle, Shape, Words

HEAD_LENGTH, HEAD_WIDTH, WIRE_WIDTH = 12, 9, 2
DASHES = (7, 5)
"""Length of dashes and of gaps."""


def svg(drawing: Drawing) -> str:
    """The text of the file."""
    body = "\n".join(_shape(shape) for shape in drawing.shapes)
    heads = "\n".join(
        _HEAD.format(name=_head(color), color=color, length=HEAD_LENGTH, width=HEAD_WIDTH)
        for color in sorted({s.color for s in drawing.shapes if isinstance(s, Arrow)})
    )
    return _SVG.format(width=drawing.width, height=drawing.height, ink=INK, heads=heads, body=body)


def _shape(shape: Shape) -> str:
    if isinstance(shape, Rectangle):
        edge = 1.0 if shape.border else 0.0
        border = f' stroke="{shape.border}" stroke-width="2"' if shape.border else ""
        return (
            f'<rect x="{_n(shape.x + edge)}" y="{_n(shape.y + edge)}" '
            f'width="{_n(shape.width - 2 * edge)}" height="{_n(shape.height - 2 * edge)}" '
            f'rx="{_n(shape.radius - edge)}" fill="{shape.fill}"{border}/>'
        )
    if isinstance(shape, Arrow):
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
        dashes = f' stroke-dasharray="{DASHES[0]} {DASHES[1]}"' if shape.dashed else ""
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.color}" '
            f'stroke-width="{WIRE_WIDTH}"{dashes} marker-end="url(#{_head(shape.color)})"/>'
        )
    return _words(shape)


def _words(words: Words) -> str:
    more = ' text-anchor="start"' if words.left else ""
    more += ' font-weight="600"' if words.bold else ""
    more += f' fill="{words.color}"' if words.color != INK else ""
    return (
        f'<text x="{_n(words.x)}" y="{_n(words.y)}" font-size="{_n(words.size)}"{more}>'
        f"{escape(words.text)}</text>"
    )


def _n(value: float) -> str:
    """A length with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _head(color: str) -> str:
    return f"head-{color.removeprefix('#')}"


_HEAD = (
    '<marker id="{name}" markerUnits="userSpaceOnUse" markerWidth="{length}" '
    'markerHeight="{width}" refX="{length}" refY="4.5" orient="auto">'
    '<path d="M0,0 L{length},4.5 L0,{width} z" fill="{color}"/></marker>'
)

_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="system-ui, 'DejaVu Sans', Arial, sans-serif" \
text-anchor="middle" fill="{ink}">
<defs>
{heads}
</defs>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}
</svg>
"""
