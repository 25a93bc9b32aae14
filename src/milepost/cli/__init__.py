"""The command line: ``milepost``."""

from milepost.cli.app import app, main

__all__ = ["app", "main"]
