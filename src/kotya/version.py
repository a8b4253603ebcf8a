"""The version of kotya."""

__version__ = "0.1.0"
