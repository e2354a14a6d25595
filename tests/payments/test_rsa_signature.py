"""RSA signatures as providers make them: what is accepted, what is refused, and in which forms keys may be pasted."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from chalicelib.payments import rsa_signature
from chalicelib.payments.rsa_signature import sign_sha256, verify_sha256

MESSAGE = '1781500000\nnonce\n{"title":"点券"}\n'.encode()


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_text(key, form=forms.PrivateFormat.PKCS8, encoding=forms.Encoding.PEM):
    return key.private_bytes(encoding, form, forms.NoEncryption())


def public_text(key, form=forms.PublicFormat.SubjectPublicKeyInfo, encoding=forms.Encoding.PEM):
    return key.public_key().public_bytes(encoding, form)


@pytest.fixture(scope="session")
def certificate(key) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    since = datetime.datetime(2024, 1, 1)
    built = x509.CertificateBuilder(name, name, key.public_key(), 0x4E2F, since, since.replace(year=2044))
    return built.sign(key, hashes.SHA256()).public_bytes(forms.Encoding.PEM).decode()


def test_what_is_signed_is_verified_and_is_plain_pkcs1_with_sha256(key):
    signature = sign_sha256(private_text(key).decode(), MESSAGE)
    key.public_key().verify(base64.b64decode(signature), MESSAGE, padding.PKCS1v15(), hashes.SHA256())
    assert verify_sha256(public_text(key).decode(), MESSAGE, signature)


def test_a_signature_of_another_message_or_another_key_is_refused(key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signature = sign_sha256(private_text(key).decode(), MESSAGE)
    assert not verify_sha256(public_text(key).decode(), MESSAGE + b" ", signature)
    assert not verify_sha256(public_text(other).decode(), MESSAGE, signature)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA512()])
def test_a_signature_over_another_digest_is_refused(key, digest):
    signature = base64.b64encode(key.sign(MESSAGE, padding.PKCS1v15(), digest)).decode()
    assert not verify_sha256(public_text(key).decode(), MESSAGE, signature)


def test_a_pss_signature_is_refused(key):
    signature = base64.b64encode(key.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()))
    assert not verify_sha256(public_text(key).decode(), MESSAGE, signature.decode())


@pytest.mark.parametrize("form", [forms.PrivateFormat.PKCS8, forms.PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_is_read_in_either_form_with_and_without_its_pem_lines(key, form):
    pem = private_text(key, form).decode()
    bare = base64.b64encode(private_text(key, form, forms.Encoding.DER)).decode()
    one_line = pem.replace("\n", " ")
    windows = "\n  " + pem.replace("\n", "\r\n")
    signatures = {sign_sha256(text, MESSAGE) for text in (pem, bare, one_line, windows)}
    assert len(signatures) == 1  # the scheme is deterministic: the same key each time


@pytest.mark.parametrize("form", [forms.PublicFormat.SubjectPublicKeyInfo, forms.PublicFormat.PKCS1])
def test_a_public_key_is_read_in_either_form_with_and_without_its_pem_lines(key, form):
    signature = sign_sha256(private_text(key).decode(), MESSAGE)
    pem = public_text(key, form).decode()
    for text in (pem, base64.b64encode(public_text(key, form, forms.Encoding.DER)).decode(), pem.replace("\n", "")):
        assert verify_sha256(text, MESSAGE, signature)


def test_a_certificate_serves_as_its_public_key(key, certificate):
    signature = sign_sha256(private_text(key).decode(), MESSAGE)
    assert verify_sha256(certificate, MESSAGE, signature)
    assert not verify_sha256(certificate, b"else", signature)


@pytest.mark.parametrize("signature", [None, b"AAAA", "", "not base64!", "AAAA", "WECHATPAY/SIGNTEST/AAAA", "é" * 8, 7])
def test_a_signature_that_cannot_be_read_is_a_no_and_not_an_error(key, signature):
    assert verify_sha256(public_text(key).decode(), MESSAGE, signature) is False


def test_what_stands_around_the_base64_of_a_signature_is_not_overlooked(key):
    signature = sign_sha256(private_text(key).decode(), MESSAGE)
    for odd in (signature + "\n", " " + signature, signature + "!", signature[:8] + "\n" + signature[8:]):
        assert not verify_sha256(public_text(key).decode(), MESSAGE, odd)


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", None])
def test_a_key_that_cannot_be_read_verifies_nothing_and_signs_nothing(text):
    assert verify_sha256(text, MESSAGE, "AAAA") is False
    with pytest.raises(ValueError):
        sign_sha256(text, MESSAGE)


def test_short_and_foreign_keys_are_refused():
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    signature = base64.b64encode(short.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())).decode()
    assert not verify_sha256(public_text(short).decode(), MESSAGE, signature)
    for unusable in (short, ec.generate_private_key(ec.SECP256R1())):
        with pytest.raises(ValueError):
            sign_sha256(private_text(unusable).decode(), MESSAGE)


def test_a_refused_key_is_not_quoted_and_does_not_spoil_the_next(key):
    pem = private_text(key).decode()
    with pytest.raises(ValueError) as caught:
        sign_sha256(pem[:400], MESSAGE)
    assert pem[60:90] not in str(caught.value) and caught.value.__suppress_context__
    assert sign_sha256(pem, MESSAGE)


def test_a_key_is_read_once_and_its_text_is_not_kept(key, monkeypatch):
    pem = private_text(key, forms.PrivateFormat.TraditionalOpenSSL).decode()
    reads = []
    monkeypatch.setattr(rsa_signature, "_der", lambda text, read=rsa_signature._der: reads.append(1) or read(text))
    rsa_signature._slot.cache_clear()
    for _ in range(3):
        sign_sha256(pem, MESSAGE)
    assert len(reads) == 1
