"""Who signed a message of PayPal's: the bytes it signs, where its certificate may be fetched, whom to believe. Pure.

CRC-32 is no protection (anybody can make two bodies with one checksum on purpose), so all rests on the certificate: it
comes from PayPal's host, is issued through to a root this machine trusts, is valid now, and bears the one name PayPal
signs messages with. A certificate of any other *.paypal.com host signs nothing here.
"""

from __future__ import annotations

import functools
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_CHAIN_BYTES = 64 * 1024
MAX_CHAIN_LENGTH = 6
_PATH = r"/v1/notifications/certs/[A-Za-z0-9_-]{1,128}"
_ADDRESS = re.compile(rf"https://(?:[a-z0-9-]+\.)*paypal\.com(?::443)?{_PATH}")
_SIGNER = re.compile(r"messageverificationcerts(?:\.[a-z0-9-]+)*\.paypal\.com")
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True)
class Signer:
    """A public key that may sign messages, from and until the instants at which its whole chain is valid."""

    public_key_pem: str
    valid_from: int
    valid_until: int


def signed_message(transmission_id: str, transmission_time: str, webhook_id: str, raw_body: bytes) -> bytes:
    """What the signature covers. The webhook id is the one of our own account, not one that the message names.

    Example:
        >>> signed_message("a", "2026-06-15T05:06:40Z", "W", b"{}")
        b'a|2026-06-15T05:06:40Z|W|2745614147'
    """
    return f"{transmission_id}|{transmission_time}|{webhook_id}|{zlib.crc32(raw_body)}".encode()


def is_paypals_address(url: str) -> bool:
    """Whether a certificate may be fetched there: the address comes with the message, so from anybody. One pattern
    over the whole text, so that no reader of addresses can see another host in it than we do.
    """
    return bool(_ADDRESS.fullmatch(url))


def is_address_below(url: str, base: str) -> bool:
    """The same for a stand-in: exactly below the address that the operator gave it."""
    return url.startswith(base) and bool(re.fullmatch(_PATH, url[len(base) :]))


def read_signer(chain_pem: bytes, roots_pem: bytes, now: int) -> Signer:
    """Check a chain (the signer's certificate first) up to one of the roots, at this instant.

    Raises: ValueError when any part of it does not hold.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import NameOID
    from cryptography.x509.verification import PolicyBuilder, VerificationError

    if len(chain_pem) > MAX_CHAIN_BYTES:
        raise ValueError("too long for a chain of certificates")
    blocks = _BLOCK.findall(chain_pem)
    if not 0 < len(blocks) <= MAX_CHAIN_LENGTH:
        raise ValueError("not a chain of certificates")
    leaf, *others = [x509.load_pem_x509_certificate(block) for block in blocks]
    names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not _SIGNER.fullmatch(names[0]):
        raise ValueError("not the name that signs messages")
    store, for_issuers, for_signer = _trust(roots_pem)
    builder = PolicyBuilder().store(store).time(datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
    # The verifier for servers would look for a host name; here the name of the signer is checked above instead.
    verifier = builder.extension_policies(ca_policy=for_issuers, ee_policy=for_signer).build_client_verifier()
    try:
        chain = verifier.verify(leaf, others).chain
    except VerificationError:
        raise ValueError("the chain does not hold") from None
    public_key = leaf.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(
        public_key.decode(),
        int(max(one.not_valid_before_utc for one in chain).timestamp()),
        int(min(one.not_valid_after_utc for one in chain).timestamp()),
    )


@functools.lru_cache(maxsize=4)
def _trust(roots_pem: bytes) -> tuple:
    """The trusted roots, and what the extensions of issuers and signer must say."""
    import warnings

    from cryptography import x509
    from cryptography.x509.verification import Criticality, ExtensionPolicy, Store

    roots = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of serial numbers in old roots, which nobody can change any more
        for block in _BLOCK.findall(roots_pem):
            try:
                roots.append(x509.load_pem_x509_certificate(block))
            except ValueError:
                continue  # one root that this library no longer reads must not take the others with it
    if not roots:
        raise ValueError("no roots to trust")

    def issues(policy: object, certificate: object, extension: x509.BasicConstraints) -> None:
        if not extension.ca:
            raise ValueError("not an issuer")

    def signs_certificates(policy: object, certificate: object, extension: x509.KeyUsage | None) -> None:
        if extension is not None and not extension.key_cert_sign:
            raise ValueError("may not sign certificates")

    def is_for_servers(policy: object, certificate: object, extension: x509.ExtendedKeyUsage | None) -> None:
        if extension is not None and x509.ExtendedKeyUsageOID.SERVER_AUTH not in extension:
            raise ValueError("made for something else")

    any_way = Criticality.AGNOSTIC
    for_issuers = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, any_way, issues)
        .may_be_present(x509.KeyUsage, any_way, signs_certificates)
    )
    for_signer = ExtensionPolicy.permit_all().may_be_present(x509.ExtendedKeyUsage, any_way, is_for_servers)
    return Store(roots), for_issuers, for_signer
