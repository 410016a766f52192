#!/usr/bin/env python3
"""Makes the corpus of fuzz_certificate.c: ways from a peer to an authority, and handshakes of TLS 1.2
that bring them.  Needs python3-cryptography; signatures are good, keys are thrown away."""
import datetime
import ipaddress
import os
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose, NameOID, ObjectIdentifier

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "certificate")
BEGIN = datetime.datetime(2026, 1, 1)
SRV, XMPP = ObjectIdentifier("1.3.6.1.5.5.7.8.7"), ObjectIdentifier("1.3.6.1.5.5.7.8.5")


def write(name, data):
    with open(os.path.join(FOLDER, name), "wb") as f:
        f.write(data)


def names(text):
    """"far.example srv:... xmpp:... ip:... mail:... dir:...": general names."""
    out = []
    for word in text.split():
        kind, _, value = word.rpartition(":")
        if kind in ("srv", "xmpp"):
            value = ("_xmpp-server." if kind == "srv" else "") + value
            tag = 0x16 if kind == "srv" else 0x0c
            der = bytes([tag, len(value)]) + value.encode()
            out.append(x509.OtherName(SRV if kind == "srv" else XMPP, der))
        elif kind == "ip":
            parse = ipaddress.ip_network if "/" in value else ipaddress.ip_address
            out.append(x509.IPAddress(parse(value)))
        elif kind == "mail":
            out.append(x509.RFC822Name(value))
        elif kind == "dir":
            out.append(x509.DirectoryName(subject(value)))
        else:
            out.append(x509.DNSName("" if value == "-" else value))
    return out


def subject(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(name, san=None, issuer=None, ca=False, length=None, permitted=None, excluded=None,
                purposes=None, critical=True, public=None):
    """A certificate and who signs with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer or (name, key)
    b = x509.CertificateBuilder(subject(signer[0]), subject(name), public or key.public_key(), 1,
                                BEGIN, BEGIN + datetime.timedelta(days=36500))
    if ca:
        b = b.add_extension(x509.BasicConstraints(True, length), True)
    if san:
        b = b.add_extension(x509.SubjectAlternativeName(names(san)), False)
    if permitted or excluded:
        b = b.add_extension(x509.NameConstraints(names(permitted) if permitted else None,
                                                 names(excluded) if excluded else None), critical)
    if purposes:
        b = b.add_extension(x509.ExtendedKeyUsage(purposes), False)
    made = b.sign(signer[1], hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER), (name, key)


def way(root, middle, leaf):
    """Keywords of three certificates: the way, the peer's first."""
    top, signer = certificate("root", ca=True, **root)
    between, signer = certificate(middle.pop("name", "middle"), ca=True, issuer=signer, **middle)
    peer, _ = certificate("peer", issuer=signer, **leaf)
    return [peer, between, top]


def path(name, root=None, middle=None, **leaf):
    leaf.setdefault("san", "far.example")
    der = way(root or {}, middle or {}, leaf)
    write(name, b"P" + b"".join(struct.pack(">H", len(d)) + d for d in der))


# ---- a handshake of a server ----

def message(kind, body):
    return bytes([kind]) + struct.pack(">I", len(body))[1:] + body


def records(data, size):
    out = b""
    for at in range(0, len(data), size):
        part = data[at:at + size]
        out += b"\x16\3\3" + struct.pack(">H", len(part)) + part
    return out


def handshake(name, chain, size=16384):
    listed = b"".join(struct.pack(">I", len(d))[1:] + d for d in chain)
    hello = b"\3\3" + b"r" * 32 + b"\0\xc0\x2b\0"
    write(name, records(message(2, hello)
                        + message(11, struct.pack(">I", len(listed))[1:] + listed)
                        + message(12, b"x" * 60) + message(14, b""), size))


def with_key(bits, exponent=65537):
    key = rsa.RSAPublicNumbers(exponent, (1 << bits) - 1 - (1 << bits // 2)).public_key()
    return certificate("peer", "far.example", public=key)[0]


def main():
    path("path-plain")
    path("path-permitted", {"permitted": "far.example"})
    path("path-permitted-other", {"permitted": "other.example"})
    path("path-excluded", middle={"excluded": "far.example"})
    path("path-nothing", middle={"excluded": "-"}, san="far.example srv:far.example")
    path("path-kinds", {"permitted": "far.example ip:192.0.2.0/24 mail:far.example dir:peer"},
         san="far.example srv:far.example xmpp:far.example ip:192.0.2.1 mail:a@far.example dir:peer")
    path("path-other-names", {"permitted": "ip:192.0.2.0/24", "excluded": "mail:far.example"},
         {"excluded": "xmpp:far.example"}, san="xmpp:far.example srv:far.example")
    path("path-lengths", {"length": 0}, {"length": 0})
    path("path-itself", {"length": 0, "permitted": "far.example"}, {"name": "root"})
    path("path-purposes", {"purposes": [Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH]},
         {"purposes": [Purpose.ANY_EXTENDED_KEY_USAGE]}, purposes=[Purpose.SERVER_AUTH])
    path("path-mail", middle={"purposes": [Purpose.EMAIL_PROTECTION]})
    path("path-optional", {"permitted": "far.example", "critical": False}, san="*.far.example")
    chain = way({}, {}, {"san": "far.example xmpp:far.example"})
    handshake("flight", chain)
    handshake("flight-pieces", chain, 100)
    handshake("flight-long", chain * 2)
    handshake("flight-key-size", [with_key(8192)])
    handshake("flight-exponent", [with_key(2048, (1 << 40) + 1)])
    handshake("flight-rsa", [with_key(2048)])
    write("rsa", with_key(2048))
    write("rsa-weak", with_key(1024))


main()
