"""TLS of a node: both sides show a certificate that the authorities in the settings signed (PS3.15 B.9, BCP 195)."""

from __future__ import annotations

import ssl

from aeflow.errors import SettingsError
from aeflow.node.settings import TlsFiles


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context by which peers are let in; raises SettingsError if a file cannot be used."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context by which destinations are reached: their certificate must name their host."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ValueError) as error:  # ssl's own are among them
        found = f"no certificate with its key ({getattr(error, 'reason', None) or type(error).__name__})"
        raise SettingsError(files.certificate, found, "give PEM files that belong together") from error
    try:
        context.load_verify_locations(files.authorities)
    except (OSError, ValueError) as error:
        found = f"no certificates of authorities ({getattr(error, 'reason', None) or type(error).__name__})"
        raise SettingsError(files.authorities, found, "give a PEM file") from error
    return context
