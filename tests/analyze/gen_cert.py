"""gen_cert.py -- throw-away certificates, with every property that a server may dislike.

The DER is written here and signed by the openssl command, so that names, dates, usages and the issuer are
free: nothing of the machine's clock or configuration gets into them.
"""

import base64
import datetime
import os
import subprocess

OK_FROM, OK_TO = (2025, 6, 1), (2047, 1, 1)

EKU_SERVER = '1.3.6.1.5.5.7.3.1'
EKU_CLIENT = '1.3.6.1.5.5.7.3.2'
ECDSA_SHA256 = '1.2.840.10045.4.3.2'
XMPP_ADDR = '1.3.6.1.5.5.7.8.5'
SRV_NAME = '1.3.6.1.5.5.7.8.7'


# ---- DER ----

def der(tag, *parts):
    body = b''.join(parts)
    n = len(body)
    if n < 128:
        return bytes([tag, n]) + body
    size = (n.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + n.to_bytes(size, 'big') + body


def seq(*parts):
    return der(0x30, *parts)


def oid(text):
    numbers = [int(x) for x in text.split('.')]
    out = bytearray([numbers[0] * 40 + numbers[1]])
    for n in numbers[2:]:
        digits = [n & 127]
        while n > 127:
            n >>= 7
            digits.append(n & 127 | 128)
        out += bytes(reversed(digits))
    return der(6, bytes(out))


def integer(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, 'big'))


def when(date):
    return der(0x18 if date[0] >= 2050 else 0x17,
               datetime.date(*date).strftime('%Y%m%d000000Z' if date[0] >= 2050 else '%y%m%d000000Z').encode())


def name(common):
    return seq(der(0x31, seq(oid('2.5.4.3'), der(0x0c, common.encode()))))


def extension(number, critical, body):
    return seq(oid(number), der(1, b'\xff') if critical else b'', der(4, body))


# ---- certificates ----

class Key:
    def __init__(self, path):
        self.path = path
        subprocess.run(['openssl', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256',
                        '-out', path], check=True, stderr=subprocess.DEVNULL)
        self.public = subprocess.run(['openssl', 'pkey', '-in', path, '-pubout', '-outform', 'DER'], check=True,
                                     stdout=subprocess.PIPE).stdout

    def sign(self, data):
        return subprocess.run(['openssl', 'dgst', '-sha256', '-sign', self.path], check=True, input=data,
                              stdout=subprocess.PIPE).stdout


class Authority:
    def __init__(self, folder, common):
        self.common = common
        self.key = Key(os.path.join(folder, 'ca.key'))
        self.leaf_key = Key(os.path.join(folder, 'leaf.key'))
        self.folder = folder
        self.serial = 1000
        self.made = {}
        self.path = os.path.join(folder, 'ca.pem')
        usage = [extension('2.5.29.19', True, seq(der(1, b'\xff'))), extension('2.5.29.15', True, der(3, b'\x01\x06'))]
        with open(self.path, 'wb') as f:
            f.write(self.write(common, common, self.key, self.key, OK_FROM, OK_TO, usage))

    def write(self, subject, issuer, key, signer, first, last, extensions):
        self.serial += 1
        to_sign = seq(der(0xa0, integer(2)), integer(self.serial), seq(oid(ECDSA_SHA256)), name(issuer),
                      seq(when(first), when(last)), name(subject), key.public, der(0xa3, seq(*extensions)))
        whole = seq(to_sign, seq(oid(ECDSA_SHA256)), der(3, b'\0', signer.sign(to_sign)))
        return (b'-----BEGIN CERTIFICATE-----\n' + base64.encodebytes(whole) + b'-----END CERTIFICATE-----\n')

    def leaf(self, *names, first=OK_FROM, last=OK_TO, usage=(EKU_SERVER, EKU_CLIENT), self_signed=False,
             xmpp_addr=None, srv_name=None):
        """Path of a PEM file with key and certificate."""
        wanted = (names, first, last, usage, self_signed, xmpp_addr, srv_name)
        if wanted in self.made:
            return self.made[wanted]
        alt = [der(0x82, n.encode()) for n in names]
        if xmpp_addr:
            alt.append(der(0xa0, oid(XMPP_ADDR), der(0xa0, der(0x0c, xmpp_addr.encode()))))
        if srv_name:
            alt.append(der(0xa0, oid(SRV_NAME), der(0xa0, der(0x16, srv_name.encode()))))
        extensions = [extension('2.5.29.17', False, seq(*alt))]
        if usage:
            extensions.append(extension('2.5.29.37', False, seq(*[oid(u) for u in usage])))
        subject = names[0] if names else xmpp_addr
        text = self.write(subject, subject if self_signed else self.common, self.leaf_key,
                          self.leaf_key if self_signed else self.key, first, last, extensions)
        path = os.path.join(self.folder, 'leaf-%d-%d.pem' % (os.getpid(), self.serial))
        with open(path, 'wb') as f, open(self.leaf_key.path, 'rb') as k:
            f.write(k.read() + text)
        self.made[wanted] = path
        return path
