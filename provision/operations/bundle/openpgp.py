"""OpenPGP signatures by an Ed25519 key, so that apt verifies a repository with the bundle's key.

Only what apt needs: a version 4 certificate and cleartext signatures (RFC 9580; EdDSA keys as in
draft-koch-eddsa-for-openpgp, which gpgv of Debian 12 and sqv of Debian 13 verify). The same inputs
give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import textwrap

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

EDDSA, SHA512 = 22, 10
CURVE = bytes.fromhex("2b06010401da470f01")
"""The object identifier of Ed25519 in OpenPGP."""

CREATED = 1735689600
"""The creation time of every key, so that a key has one certificate: 2025-01-01, UTC."""

TEXT, CERTIFICATION = 0x01, 0x13
PUBLIC_KEY, USER_ID, SIGNATURE = 6, 13, 2
SIGN_AND_CERTIFY = 0x03


def certificate(key: Ed25519PrivateKey, owner: str) -> str:
    """The public key as an armored certificate.

    Args:
        owner: the user id.
    """
    body, name = _public_key(key), owner.encode()
    data = _hashed_key(body) + b"\xb4" + struct.pack(">L", len(name)) + name
    flags = _subpacket(27, bytes([SIGN_AND_CERTIFY])) + _subpacket(21, bytes([SHA512]))
    signature = _signature(key, CERTIFICATION, data, CREATED, flags)
    packets = _packet(PUBLIC_KEY, body) + _packet(USER_ID, name) + _packet(SIGNATURE, signature)
    return _armored("PUBLIC KEY BLOCK", packets)


def clear_signed(key: Ed25519PrivateKey, text: str, seconds: int) -> str:
    """A text with its signature, such as the content of ``InRelease``.

    Args:
        text: lines without trailing spaces, none of which starts with a dash.
        seconds: since the epoch, the time of the signature.
    """
    lines = text.rstrip("\n").split("\n")
    if any(line != line.rstrip() or line.startswith("-") for line in lines):
        raise ValueError("a line would have to be escaped")
    signature = _signature(key, TEXT, "\r\n".join(lines).encode(), max(seconds, CREATED), b"")
    armored = _armored("SIGNATURE", _packet(SIGNATURE, signature))
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    return head + "\n".join(lines) + "\n" + armored


def _public_key(key: Ed25519PrivateKey) -> bytes:
    point = _number(b"\x40" + key.public_key().public_bytes_raw())
    head = struct.pack(">BLBB", 4, CREATED, EDDSA, len(CURVE))
    return head + CURVE + point


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + struct.pack(">H", len(body)) + body


def _signature(
    key: Ed25519PrivateKey, kind: int, data: bytes, seconds: int, subpackets: bytes
) -> bytes:
    """The body of a version 4 signature packet."""
    fingerprint = hashlib.sha1(_hashed_key(_public_key(key)), usedforsecurity=False).digest()
    hashed = _subpacket(2, struct.pack(">L", seconds)) + _subpacket(33, b"\x04" + fingerprint)
    hashed += subpackets
    unhashed = _subpacket(16, fingerprint[-8:])
    head = struct.pack(">BBBBH", 4, kind, EDDSA, SHA512, len(hashed)) + hashed
    trailer = b"\x04\xff" + struct.pack(">L", len(head))
    digest = hashlib.sha512(data + head + trailer).digest()
    signed = key.sign(digest)
    numbers = _number(signed[:32]) + _number(signed[32:])
    return head + struct.pack(">H", len(unhashed)) + unhashed + digest[:2] + numbers


def _number(data: bytes) -> bytes:
    """A multiprecision integer: its length in bits, and its bytes without leading zeros."""
    value = int.from_bytes(data, "big")
    return struct.pack(">H", value.bit_length()) + value.to_bytes((value.bit_length() + 7) // 8)


def _subpacket(kind: int, data: bytes) -> bytes:
    return bytes([len(data) + 1, kind]) + data


def _packet(tag: int, body: bytes) -> bytes:
    """A packet with a length of two octets at most (bodies of up to 8383 bytes)."""
    size = len(body)
    long = struct.pack(">H", size - 192 + (192 << 8)) if size >= 192 else b""
    return bytes([0xC0 | tag]) + (long or bytes([size])) + body


def _armored(kind: str, data: bytes) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64))
    check = base64.b64encode(_crc24(data).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP {kind}-----\n\n{body}\n={check}\n-----END PGP {kind}-----\n"


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF
