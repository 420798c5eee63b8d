"""The package's version, for those inside it who must not import the whole package."""

__version__ = "0.2.0"
