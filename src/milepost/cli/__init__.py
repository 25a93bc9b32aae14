"""The command line: ``milepost``."""

__all__: list[str] = []
