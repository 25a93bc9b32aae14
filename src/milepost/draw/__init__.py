"""Pictures of graphs and runs: Mermaid, SVG, text, a timeline."""

from milepost.draw.as_mermaid import mermaid
from milepost.draw.as_svg import svg
from milepost.draw.as_text import text
from milepost.draw.as_timeline import TimelineRow, timeline, timeline_rows
from milepost.draw.from_ledger import picture_of_run
from milepost.draw.picture import Picture, PictureEdge, PictureNode, Span, as_picture

__all__ = [
    "Picture",
    "PictureEdge",
    "PictureNode",
    "Span",
    "TimelineRow",
    "as_picture",
    "mermaid",
    "picture_of_run",
    "svg",
    "text",
    "timeline",
    "timeline_rows",
]
