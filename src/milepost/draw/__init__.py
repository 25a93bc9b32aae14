"""Pictures of graphs and runs: mermaid, SVG, text, a timeline."""

__all__: list[str] = []
