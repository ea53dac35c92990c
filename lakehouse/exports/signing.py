"""Signing manifests with Ed25519: by a key in a local file, or by AWS KMS, which never gives its key away.

Belongs here: keys and signatures. Does not: what is signed (`manifest.py`).
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lakehouse.errors import ExportError, SigningFailed

_KMS_ALGORITHM = "ED25519_SHA_512"  # pure Ed25519, of RAW messages only
MOST_KMS_BYTES = 4096


class Signer(Protocol):
    """Whoever signs: the key stays with it."""

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that verifies its signatures."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature. Raises `SigningFailed`."""


class LocalSigner:
    """Signs with a private key that this process has read."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> LocalSigner:
        """Read the key from a PEM file (PKCS 8, not encrypted). Raises `SigningFailed`."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except OSError as error:
            raise SigningFailed(
                f"cannot read the signing key {path}: {error.strerror}", "check audit.signing_key"
            ) from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SigningFailed(f"the signing key {path} is no key in PEM", _HOW) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningFailed(f"the signing key {path} is no Ed25519 key", _HOW)
        return cls(key)

    @property
    def public_key(self) -> Ed25519PublicKey:
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class KmsSigner:
    """Signs with a key of AWS KMS (ECC_NIST_EDWARDS25519), by the identity of this process.

    Args:
        client: boto3's client of KMS.
        key: id, ARN or alias of the key.
    """

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key
        self._public: Ed25519PublicKey | None = None

    @classmethod
    def in_region(cls, region: str, key: str) -> KmsSigner:
        """Connect. Raises `SigningFailed` where the extra `aws` is missing."""
        try:
            import boto3
        except ImportError:
            raise SigningFailed(
                "signing with KMS needs boto3, which is not installed",
                "install the extra: paywave-lakehouse[aws]",
            ) from None
        return cls(boto3.client("kms", region_name=region), key)

    @property
    def public_key(self) -> Ed25519PublicKey:
        if self._public is None:
            der = self._ask("get_public_key", KeyId=self._key)["PublicKey"]
            found = serialization.load_der_public_key(der)
            if not isinstance(found, Ed25519PublicKey):
                raise SigningFailed(f"the key {self._key} of KMS is no Ed25519 key", _KMS_HOW)
            self._public = found
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message of up to `MOST_KMS_BYTES`: more KMS does not take."""
        if len(message) > MOST_KMS_BYTES:
            raise SigningFailed(
                f"{len(message):,} bytes are more than KMS signs at once ({MOST_KMS_BYTES:,})"
            )
        answer = self._ask(
            "sign", KeyId=self._key, Message=message, MessageType="RAW", SigningAlgorithm=_KMS_ALGORITHM
        )
        return bytes(answer["Signature"])

    def _ask(self, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, operation)(**arguments)
        except Exception as error:  # botocore makes its classes at run time
            raise SigningFailed(
                f"KMS refused {operation} with the key {self._key}: {type(error).__name__}", _KMS_HOW
            ) from None


def made_signer(path: Path) -> LocalSigner:
    """Read the local stack's own key; whoever comes first makes it, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(_private_pem(Ed25519PrivateKey.generate()))
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            path.hardlink_to(fresh)
        fresh.unlink()
    return LocalSigner.from_file(path)


def pem_of(key: Ed25519PublicKey) -> bytes:
    """Write a public key as PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key_of(pem: bytes, where: str) -> Ed25519PublicKey:
    """Read a public key. Raises `ExportError`, naming where it came from."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ExportError(f"{where} is no Ed25519 public key in PEM", "give the signer's --public-key")
    return key


def is_signed(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature is that of a message by a key."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


_HOW = "make one with `openssl genpkey -algorithm ed25519 -out KEY.pem`, and set audit.signing_key"
_KMS_HOW = "it wants key spec ECC_NIST_EDWARDS25519, usage SIGN_VERIFY, kms:Sign and kms:GetPublicKey"
