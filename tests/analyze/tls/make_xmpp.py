#!/usr/bin/env python3
"""Makes xmpp-*.pcap and xmpp-*.keys of this directory: two servers that federate, by STARTTLS and
by direct TLS, both with certificates.  No network: both ends are objects of this program, and what
they say is written as packets from 192.0.2.1 to 192.0.2.2.  What must be seen of it is in
../test_cuts.c."""
import os, ssl, struct, subprocess, tempfile

OUT = os.path.dirname(os.path.abspath(__file__))
TMP = tempfile.mkdtemp()
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


def certificate(name):
    key, pem = (os.path.join(TMP, name + end) for end in (".key", ".pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec",
                    "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", pem,
                    "-days", "3650", "-subj", "/CN=" + name,
                    "-addext", "subjectAltName=DNS:" + name], check=True, stderr=subprocess.DEVNULL)
    return pem, key


class Wire:
    """Packets of one connection, with SYN and FIN."""

    def __init__(self, path, port):
        self.f = open(path, "wb")
        self.f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        self.ports, self.seq, self.time = (40000, port), [1000, 5000], 1800000000000000
        for side, flags in ((0, 2), (1, 0x12), (0, 0x10)):
            self.packet(side, flags)

    def packet(self, side, flags, data=b""):
        ends = [bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])]
        ack = self.seq[1 - side] if flags & 0x10 else 0
        tcp = struct.pack("!HHIIBBHHH", self.ports[side], self.ports[1 - side], self.seq[side], ack,
                          0x50, flags, 65000, 0, 0) + data
        ends = ends[side] + ends[1 - side]
        total = check(ends + struct.pack("!HH", 6, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends
        ip = ip[:10] + struct.pack("!H", check(ip)) + ip[12:]
        frame = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + tcp
        self.f.write(struct.pack("<IIII", self.time // 1000000, self.time % 1000000, len(frame),
                                 len(frame)) + frame)
        self.time += 1000
        self.seq[side] += len(data) + (1 if flags & 3 else 0)

    def say(self, side, data):
        for at in range(0, len(data), 1448):
            self.packet(side, 0x18, data[at:at + 1448])

    def end(self):
        for side, flags in ((0, 0x11), (1, 0x11), (0, 0x10)):
            self.packet(side, flags)
        self.f.close()


def check(data):
    total = sum(struct.unpack("!%dH" % ((len(data) + 1) // 2), data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def header(side):
    a, b = ("a.example", "b.example")[::1 if side == 0 else -1]
    return ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' "
            "xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' "
            "version='1.0' from='%s' to='%s'%s>"
            % (a, b, "" if side == 0 else " id='s-1'")).encode()


PLAIN = [
    (0, header(0)),
    (1, header(1) + b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>"
                    b"<required/></starttls></stream:features>"),
    (0, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    (1, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
]
INSIDE = [
    (0, header(0)),
    (1, header(1) + ("<stream:features><mechanisms xmlns='%s'><mechanism>EXTERNAL</mechanism>"
                     "</mechanisms></stream:features>" % SASL).encode()),
    (0, ("<auth xmlns='%s' mechanism='EXTERNAL'>=</auth>" % SASL).encode()),
    (1, ("<success xmlns='%s'/>" % SASL).encode()),
    (0, header(0)),
    (1, header(1) + b"<stream:features/>"),
    (0, "<message from='u@a.example' to='v@b.example'><body>\u00e4 &lt; b</body>"
        "</message>".encode()),
    (0, b"<iq from='a.example' to='b.example' id='1' type='get'>"
        b"<ping xmlns='urn:xmpp:ping'/></iq>"),
    (0, b"</stream:stream>"),
    (1, b"</stream:stream>"),
]


def make(name, version, direct, pems):
    wire = Wire(os.path.join(OUT, name + ".pcap"), 5270 if direct else 5269)
    keys = os.path.join(OUT, name + ".keys")
    if os.path.exists(keys):
        os.unlink(keys)
    ends = []
    for side, kind in ((0, ssl.PROTOCOL_TLS_CLIENT), (1, ssl.PROTOCOL_TLS_SERVER)):
        context = ssl.SSLContext(kind)
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(*pems[side])
        context.load_verify_locations(pems[1 - side][0])
        context.verify_mode = ssl.CERT_REQUIRED
        if direct:
            context.set_alpn_protocols(["xmpp-server"])
        if side == 0:
            context.keylog_filename = keys
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(into, out, server_side=side == 1,
                               server_hostname="b.example" if side == 0 else None)
        ends.append((tls, into, out))

    def flush():
        for side in (0, 1):
            data = ends[side][2].read()
            if data:
                wire.say(side, data)
                ends[1 - side][1].write(data)

    if not direct:
        for side, data in PLAIN:
            wire.say(side, data)
    done = [False, False]
    while not all(done):
        for side in (0, 1):
            try:
                ends[side][0].do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                pass
            flush()
    for side, data in INSIDE:
        ends[side][0].write(data)
        flush()
        assert ends[1 - side][0].read(65536) == data
    for side in (0, 1):
        try:
            ends[side][0].unwrap()
        except ssl.SSLWantReadError:
            pass
        flush()
    wire.end()


pems = [certificate("a.example"), certificate("b.example")]
for direct in (False, True):
    for word, version in (("12", ssl.TLSVersion.TLSv1_2), ("13", ssl.TLSVersion.TLSv1_3)):
        make("xmpp-%s-%s" % ("direct" if direct else "starttls", word), version, direct, pems)
