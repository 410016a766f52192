#!/usr/bin/env python3
"""72-certificates.t -- certificates that cost, or that vouch for what they may not, on real sockets.

The chains are made byte by byte: keys with public exponents as long as the modulus, which cost a second of
processor time for each signature, authorities that have a critical extension, and texts that no terminal may
be given.
"""
import base64
import hashlib
import os
import re
import socket
import ssl
import sys
sys.dont_write_bytecode = True      # leave no __pycache__ in the source
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from edge import Edge, Pki, binary, have_binary, partner                        # noqa: E402
from lab import Lab, need_programs, openssl                                     # noqa: E402
from scene import HOSTILE, printed, unsafe                                      # noqa: E402
from tap import check, equal, note, run, skip_all, test                         # noqa: E402
from xmpp import NS_SASL, Closed, Peer, Stream, client_context, local                   # noqa: E402

CHEAP = 0.15        # seconds of processor time that all refused handshakes of a test may take
HANDSHAKES = 4      # three tests together stay below the 20 lines that the log takes of strangers


class World:
    pass


def setup():
    w = World()
    w.lab = lab = Lab()
    w.pki = pki = Pki(lab)
    w.dns = lab.resolver('outside', lab.ip(2))
    w.dns.wildcard('words.example', lab.ip(67))
    w.dns.start()
    w.count = 0
    w.corp = pki.public.issue('corp.example')
    w.key = pki.public.issue('far.example')
    w.edge = Edge(lab, 'edge01', lab.ip(21), lab.ip(31), pki, w.dns,
                  {'corp.example': w.corp}, [partner('far.example')],
                  limits={'source-connections': 1000, 'source-rate': 1000, 'source-burst': 1000}).start()
    return w


# ---- DER ---------------------------------------------------------------------------------------

def der(tag, *parts):
    content = b''.join(parts)
    n = len(content)
    octets = (n.bit_length() + 7) // 8
    size = bytes([n]) if n < 128 else bytes([0x80 | octets]) + n.to_bytes(octets, 'big')
    return bytes([tag]) + size + content


def number(n):
    return der(2, n.to_bytes(n.bit_length() // 8 + 1, 'big'))


def oid(*tail):
    return der(6, bytes(tail))


SHA256_RSA = der(0x30, oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11), b'\x05\x00')


SHA256_ECDSA = der(0x30, oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2))


def rsa(bits, exponent_bits):
    """A key that nobody has the private half of; its owner would sign as cheaply as anybody."""
    modulus = 1 << bits - 1 | int.from_bytes(hashlib.sha512(b'x').digest() * (bits // 520), 'big') | 1
    exponent = 1 << exponent_bits - 1 | 1
    return der(0x30, der(0x30, oid(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1), b'\x05\x00'),
               der(3, b'\0', der(0x30, number(modulus), number(exponent))))


def body(algorithm, subject, issuer, key, extensions):
    return der(0x30, der(0xa0, number(2)), number(4711), algorithm, issuer,
               der(0x30, der(23, b'250101000000Z'), der(23, b'450101000000Z')), subject, key,
               der(0xa3, der(0x30, *extensions)))


def certificate(subject, issuer, key, bits, *extensions):
    def name(text):
        return der(0x30, der(0x31, der(0x30, oid(0x55, 4, 3), der(12, text.encode()))))
    return der(0x30, body(SHA256_RSA, name(subject), name(issuer), key, extensions), SHA256_RSA,
               der(3, b'\0', b'\x55' * (bits // 8)))


def extension(number_, critical, value):
    return der(0x30, oid(0x55, 0x1d, number_), b'\x01\x01\xff' if critical else b'', der(4, value))


NAMES = extension(17, False, der(0x30, der(0x82, b'far.example')))
AUTHORITY = extension(19, True, der(0x30, b'\x01\x01\xff'))
CONSTRAINED = extension(30, True, der(0x30, der(0xa0, der(0x30, der(0x82, b'far.example')))))


def own_key(w):
    """SubjectPublicKeyInfo of the key that the peer really has."""
    path = os.path.join(w.lab.dir, 'own.der')
    openssl('pkey', '-in', w.key.key, '-pubout', '-outform', 'der', '-out', path)
    with open(path, 'rb') as f:
        return f.read()


def chain(w, name, *certificates):
    path = os.path.join(w.lab.dir, name + '.pem')
    with open(path, 'w') as out:
        for c in certificates:
            out.write('-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n'
                      % base64.encodebytes(c).decode())
    return path


def shake(w, path, version):
    """One handshake by direct TLS with this chain.  How it ends is the edge's to say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(['xmpp-server'])
    context.maximum_version = version
    context.set_ciphers('DEFAULT:@SECLEVEL=0')
    context.load_cert_chain(path, w.key.key)
    w.edge.forget_log()
    w.count += 1
    source = ('127.60.%d.1' % w.count, 0)
    with socket.create_connection(w.edge.external, 20, source) as s:
        try:
            with context.wrap_socket(s, server_hostname='corp.example') as t:
                while t.recv(1000):
                    pass
        except OSError:
            pass


def seconds(w):
    """Of processor time that the edge has taken."""
    with open('/proc/%d/stat' % w.edge.process.pid) as f:
        words = f.read().rsplit(')', 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')


def refused(w, why, *certificates):
    path = chain(w, why, *certificates)
    before = seconds(w)
    for _ in range(HANDSHAKES):
        shake(w, path, ssl.TLSVersion.TLSv1_2)
    w.edge.wait_log('s2s-in-closed', why=why)
    spent = seconds(w) - before
    check(spent < CHEAP, '%d handshakes took %.2f s of processor time' % (HANDSHAKES, spent))


def bomb(w, bits, exponent_bits):
    key = rsa(bits, exponent_bits)
    return [certificate('leaf', 'b1', own_key(w), bits, NAMES)] + [
        certificate('b%d' % i, 'b%d' % (i + 1), key, bits, AUTHORITY) for i in (1, 2, 3)]


# ---- tests -------------------------------------------------------------------------------------

@test
def a_chain_of_keys_with_long_exponents_costs_nothing(w):
    refused(w, 'cert-key-size', *bomb(w, 8192, 8184))


@test
def nor_does_one_whose_keys_are_not_larger_than_usual(w):
    refused(w, 'cert-key-exponent', *bomb(w, 4096, 4095))


@test
def a_chain_that_is_too_long_costs_nothing(w):
    refused(w, 'cert-chain-length', *(bomb(w, 2048, 17) * 2))


@test
def a_critical_name_constraint_ends_the_handshake_and_the_log_says_so(w):
    path = chain(w, 'critical', certificate('leaf', 'b1', own_key(w), 2048, NAMES),
                 certificate('b1', 'b2', rsa(2048, 17), 2048, AUTHORITY, CONSTRAINED))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        shake(w, path, version)
        w.edge.wait_log('s2s-in-closed', why='cert-critical-extension')


@test
def where_the_chain_is_hidden_it_is_refused_when_it_was_verified(w):
    path = chain(w, 'hidden', *bomb(w, 4096, 4095))
    shake(w, path, ssl.TLSVersion.TLSv1_3)
    w.edge.wait_log('s2s-in-closed', why='cert-key-exponent')


# ---- words in certificates ---------------------------------------------------------------------

MORE = [b'new\nline', b'carriage\rreturn', b'a.words.example\0.evil', b'x' * 65536, '\u202e'.encode() * 21845]


def text(word):
    """In the kind of string that OpenSSL, which is the server here, takes it for."""
    try:
        return der(0x0c, word.decode().encode())
    except UnicodeDecodeError:
        return der(0x14, word)


def distinguished(word):
    return der(0x30, *[der(0x31, der(0x30, oid(0x55, 4, kind), text(word))) for kind in (3, 10)])


def names(word, domain):
    """All kinds, each with the word in it, and the one that is right."""
    pkix = (0x2b, 6, 1, 5, 5, 7, 8)
    return extension(17, False, der(
        0x30, der(0x82, word), der(0x81, word), der(0x86, word), der(0x82, domain.encode()),
        der(0xa0, oid(*pkix, 5), der(0xa0, der(0x0c, word))), der(0xa0, oid(*pkix, 7), der(0xa0, der(0x16, word)))))


def name_of(authority):
    """The DER of its name."""
    path = authority.crt + '.name'
    openssl('x509', '-in', authority.crt, '-outform', 'der', '-out', path)
    openssl('asn1parse', '-inform', 'der', '-in', path, '-strparse', '4', '-noout', '-out', path + '.body')
    with open(path + '.body', 'rb') as f:
        rest = f.read()
    at = 4 + 5                          # the head, and the version
    for _ in range(2):                  # number and algorithm: short ones
        at += 2 + rest[at + 1]
    return rest[at:at + 2 + rest[at + 1]]


class Worded:
    """A certificate for the key that the peer really has, with a word wherever a text can be."""

    def __init__(self, w, stem, word, domain, authority=None):
        self.chain, self.key = os.path.join(w.lab.dir, stem + '.pem'), w.key.key
        subject = distinguished(word)
        signed = body(SHA256_ECDSA, subject, name_of(authority) if authority else subject, own_key(w),
                      [names(word, domain)])
        files = [os.path.join(w.lab.dir, stem + end) for end in ('.body', '.signature')]
        with open(files[0], 'wb') as f:
            f.write(signed)
        openssl('dgst', '-sha256', '-sign', authority.key if authority else self.key, '-out', files[1], files[0])
        with open(files[1], 'rb') as f:
            chain(w, stem, der(0x30, signed, SHA256_ECDSA, der(3, b'\0', f.read())))


class Unkind(Peer):
    """A server that takes nobody's certificate."""

    def take(self, stream, element):
        if local(element) != 'auth':
            return super().take(stream, element)
        stream.send("<failure xmlns='%s'><not-authorized/></failure></stream:stream>" % NS_SASL)
        return True


def seen(w, node):
    """All that is printed of it, and its log."""
    said = b''.join(printed(['status', node.path] + more) for more in ([], ['--json']))
    with open(node.process.log, 'rb') as f:
        log = f.read()
    equal(unsafe(log), [], 'in the log')
    equal([line for line in log.split(b'\n') if line and not re.match(rb'20\d\d-', line)], [], 'lines that are none')
    return said, log


@test
def no_word_in_the_certificate_of_a_server_that_we_dial_reaches_a_terminal_as_it_was_written(w):
    policy = "<default tls='required' sasl='required' dialback='false'/>"
    edge = Edge(w.lab, 'edge02', w.lab.ip(22), w.lab.ip(32), w.pki, w.dns, {'corp.example': w.corp}, [policy],
                level='info', default='allow').start()
    peer = Unkind(w.lab, ['words.example'], (w.lab.ip(67), 5269), ca=w.pki.public, tls='required')
    ends = []
    for n, word in enumerate(HOSTILE + MORE):
        for authority in (w.pki.public, None):
            domain = '%s%d.words.example' % ('signed' if authority else 'own', n)
            peer.cert = Worded(w, domain, word, domain, authority)
            said = printed(['ping', edge.path, domain]).decode()
            if len(word) < 1000:        # longer ones are refused for it, in words that depend on the version
                ends.append('sasl-refused' in said if authority else 'cert-untrusted' in said)
            seen(w, edge)
    check(all(ends) and len(ends) > 2 * len(HOSTILE), 'some were refused for something else: %s' % ends)
    equal(edge.terminate(), 0, 'exit status')


@test
def nor_does_one_in_the_certificate_of_a_gateway(w):
    shown = 0
    for n, word in enumerate(HOSTILE + MORE):
        cert = Worded(w, 'fe%d' % n, word, 'fe01.corp.example', w.pki.internal)
        s = Stream.dial(w.edge.internal, source='127.61.%d.1' % n, name='trunk')
        try:
            s.handshake(client_context(cert), sni='edge01.corp.example')
            s.open('fe01.corp.example', 'edge01.corp.example')
            s.features()
        except (OSError, ssl.SSLError, Closed):
            pass
        shown += seen(w, w.edge)[0].count(b'CN=')
        s.close(politely=False)
    note('%d times a subject was shown' % shown)
    check(shown > len(HOSTILE), 'no subject was shown')


@test
def the_edge_is_well(w):
    check(w.edge.running(), 'it is dead:\n' + w.edge.log_text()[-2500:])
    check(not w.edge.sanitizer_report(), w.edge.sanitizer_report())
    equal(w.edge.terminate(), 0, 'exit status')


if __name__ == '__main__':
    missing = need_programs('dnsmasq', 'openssl')
    if missing or not have_binary():
        skip_all('missing: ' + ' '.join(missing) if missing else 'no ' + binary())
    run(setup)
