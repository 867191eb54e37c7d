"""The version, told to the package's build as well."""

__version__ = "0.1.0"
