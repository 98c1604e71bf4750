"""Who we are to the other side, and how we know that it is the one: secrets and certificates.

Secrets come from the environment or, where the package is installed, from a keyring. They are in no log, exception, option or
result; nothing here prints them.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from srh_clinic.errors import InputError, on_one_line
from srh_clinic.pacs.address import WebAddress

TOKEN, USER, PASSWORD = VARIABLES = ("SRH_CLINIC_PACS_TOKEN", "SRH_CLINIC_PACS_USER", "SRH_CLINIC_PACS_PASSWORD")
"""Variables of the environment that hold secrets: a bearer's token, or a user and a password."""

SERVICE = "srh-clinic"
"""What a keyring knows us by, followed by the service's host: ``srh-clinic pacs.example``."""

BEARER = "token"
"""The user's name under which a keyring holds a token and no password."""


@dataclass(frozen=True)
class Credentials:
    """What is said with every request: a token, or a user and a password. Prints as nothing."""

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def header(self) -> str:
        """The value of ``Authorization``."""
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


def credentials_for(address: WebAddress, environ: Mapping[str, str]) -> Credentials | None:
    """The secrets for a service; None where there are none.

    Raises
    ------
    InputError
        When there is only a part of them, or they would travel where others can read them.
    """
    found = _of_environment(environ) or _of_keyring(address.origin[1])
    if found is not None and not address.is_private:
        what = "credentials for a service over plain http, where anybody on the way reads them"
        raise InputError(what, "https", str(address))
    return found


def _of_environment(environ: Mapping[str, str]) -> Credentials | None:
    token, user, password = (environ.get(name, "") for name in VARIABLES)
    if any(ord(sign) < 0x20 or ord(sign) > 0x7E for sign in token) or any(ord(sign) < 0x20 for sign in user + password):
        raise InputError("a character that no header can hold in the credentials of the environment", "text on one line")
    if token:
        return Credentials(token=token)
    if bool(user) != bool(password) or ":" in user:
        raise InputError(f"{USER} without {PASSWORD}, the reverse, or a colon in the user's name", "both, or a token")
    return Credentials(user=user, password=password) if user else None


def _of_keyring(host: str) -> Credentials | None:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        found = keyring.get_credential(f"{SERVICE} {host}", None)
    except (KeyringError, RuntimeError, OSError):  # none is set up, as on most servers
        return None
    if found is None:
        return None
    return Credentials(token=found.password) if found.username == BEARER else Credentials("", found.username, found.password)


@dataclass(frozen=True)
class Trust:
    """How the other side is known, and how it knows us.

    Attributes
    ----------
    ca
        PEM file of the authorities to believe; None for those that the system believes.
    certificate, key
        PEM files of our own; the key may stand in the certificate's file.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A context for whom we call: it checks certificate and host name.

        Raises
        ------
        InputError
            When a file is none of what it should be.
        """
        return self._context(ssl.Purpose.SERVER_AUTH)

    def server_context(self) -> ssl.SSLContext:
        """A context for whom we listen to: it shows our certificate, and asks for one that an authority of ours knows.

        Raises
        ------
        InputError
            When we have none, or a file is none of what it should be.
        """
        if self.certificate is None:
            raise InputError("no certificate to listen with", "--cert")
        return self._context(ssl.Purpose.CLIENT_AUTH)

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        if self.key is not None and self.certificate is None:
            raise InputError("a key without a certificate", "the certificate too (--cert)", self.key)
        try:
            context = ssl.create_default_context(purpose, cafile=None if self.ca is None else str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"no authority's certificate ({on_one_line(error)})", "a file in PEM", self.ca) from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca is None:
            context.load_default_certs(purpose)
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
            except (OSError, ssl.SSLError) as error:
                needed = "certificate and key in PEM that belong together, the key without a password"
                raise InputError(f"no certificate of ours ({on_one_line(error)})", needed, self.certificate) from error
        return context


def _no_password() -> str:
    """In the place of a question that nobody is there to answer."""
    return ""
