"""Ed25519: the independent verifier by RFC 8032's vectors and cryptography; keys in files and in KMS."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import ExportError, SigningFailed
from lakehouse.exports import signing, verifier
from lakehouse.exports.signing import KmsSigner, LocalSigner, is_signed, made_signer, pem_of, public_key_of

VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]  # fmt: skip
_keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("_secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(_secret: str, public: str, message: str, signature: str) -> None:
    told = [bytes.fromhex(text) for text in (public, message, signature)]
    assert verifier.is_signed(*told)
    assert not verifier.is_signed(told[0], told[1] + b"x", told[2])


@settings(max_examples=25)
@given(_keys, st.binary(max_size=200), st.integers(0, 511))
def test_a_signature_holds_until_one_bit_is_flipped(secret: bytes, message: bytes, bit: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public = key.public_key().public_bytes_raw()
    signature = bytearray(key.sign(message))
    assert verifier.is_signed(public, message, bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verifier.is_signed(public, message, bytes(signature))
    assert not is_signed(key.public_key(), message, bytes(signature))


@settings(max_examples=25)
@given(_keys, st.binary(min_size=64, max_size=64))
def test_noise_is_no_signature(public: bytes, signature: bytes) -> None:
    assert not verifier.is_signed(public, b"message", signature)


def test_a_scalar_beyond_the_group_is_refused() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signature = key.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + verifier.ORDER
    forged = signature[:32] + scalar.to_bytes(32, "little")
    assert not verifier.is_signed(key.public_key().public_bytes_raw(), b"m", forged)


def test_wrong_lengths_are_refused() -> None:
    assert not verifier.is_signed(b"", b"m", bytes(64))
    assert not verifier.is_signed(bytes(32), b"m", bytes(63))


# -- keys ---------------------------------------------------------------------------------------------------


def test_the_stack_makes_its_own_key_once_and_keeps_it_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "audit.pem"
    made = made_signer(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pem_of(made_signer(path).public_key) == pem_of(made.public_key)
    assert [p.name for p in path.parent.iterdir()] == ["audit.pem"]


@pytest.mark.parametrize("content", [None, b"nothing", b"ec"])
def test_a_file_that_is_no_such_key_is_said(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    if content == b"ec":
        content = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningFailed, match=r"key\.pem"):
        LocalSigner.from_file(path)
    with pytest.raises(ExportError, match="no Ed25519 public key"):
        public_key_of(content or b"", "key.pem")


# -- AWS KMS: moto has no Ed25519 keys, so botocore's stubber stands in for it -------------------------------


def kms(key: Ed25519PrivateKey, message: bytes) -> tuple[Any, Stubber]:
    client = boto3.client("kms", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    stub.add_response("get_public_key", {"PublicKey": der}, {"KeyId": "alias/audit"})
    asked = {
        "KeyId": "alias/audit",
        "Message": message,
        "MessageType": "RAW",
        "SigningAlgorithm": "ED25519_SHA_512",
    }
    stub.add_response("sign", {"Signature": key.sign(message)}, asked)
    return client, stub


def test_kms_signs_raw_messages_with_a_key_that_stays_there() -> None:
    key, message = Ed25519PrivateKey.generate(), b"statement"
    client, stub = kms(key, message)
    with stub:
        signer = KmsSigner(client, "alias/audit")
        public = signer.public_key
        assert pem_of(public) == pem_of(key.public_key())
        assert is_signed(public, message, signer.sign(message))
        assert signer.public_key is public  # asked once
        stub.assert_no_pending_responses()


def test_what_kms_refuses_is_said_without_its_words() -> None:
    client, stub = kms(Ed25519PrivateKey.generate(), b"")
    stub = Stubber(client)
    stub.add_client_error("sign", "AccessDeniedException")
    with stub, pytest.raises(SigningFailed, match="refused sign") as refused:
        KmsSigner(client, "alias/audit").sign(b"m")
    assert "kms:Sign" in refused.value.hint


def test_kms_takes_no_long_message() -> None:
    with pytest.raises(SigningFailed, match="4,096"):
        KmsSigner(None, "k").sign(bytes(signing.MOST_KMS_BYTES + 1))
