#!/usr/bin/env python3
"""Makes the corpora of the fuzz targets of the analyzer, from the captures in ../analyze/tls and by
hand:  make_corpus.py [MAKE_TLS]

    capture    files: pcap and pcapng of both byte orders, cut, odd
    packet     see ../analyze/fuzz_packet.c
    flow       see ../analyze/fuzz_flow.c
    xmpp       see ../analyze/fuzz_xmpp.c
    tls        see ../analyze/fuzz_tls.c; MAKE_TLS is that file compiled with -DFUZZ_MAKE
"""
import os
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TLS = os.path.join(HERE, "..", "analyze", "tls")


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def frames(name):
    """The Ethernet frames of a capture of ours."""
    with open(os.path.join(TLS, name + ".pcap"), "rb") as f:
        data = f.read()
    at, out = 24, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        out.append(data[at + 16:at + 16 + size])
        at += 16 + size
    return out


# ---- capture ----

def pcap(order, magic, link, packets, snaplen=65535):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)
    for i, p in enumerate(packets):
        kept = p[:snaplen]
        out += struct.pack(order + "IIII", 1800000000, i * 1000, len(kept), len(p)) + kept
    return out


def block(order, kind, body):
    body += b"\0" * (-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def pcapng(order, packets, keys=b"", resolution=None):
    end = option(order, 0, b"")
    out = block(order, 0x0a0d0d0a, struct.pack(order + "IHHq", 0x1a2b3c4d, 1, 0, -1)
                + option(order, 4, b"by hand") + end)
    about = option(order, 2, b"eth0") + option(order, 3, b"outside")
    if resolution is not None:
        about += option(order, 9, bytes([resolution]))
        about += option(order, 14, struct.pack(order + "q", 5))
    out += block(order, 1, struct.pack(order + "HHI", 1, 0, 0) + about + end)
    out += block(order, 1, struct.pack(order + "HHI", 1, 0, 96))
    if keys:
        out += block(order, 10, struct.pack(order + "II", 0x544c534b, len(keys)) + keys)
    for i, p in enumerate(packets):
        time = 1800000000000000 + i * 1000
        if i % 5 == 4:
            out += block(order, 3, struct.pack(order + "I", len(p)) + p)
            continue
        out += block(order, 6, struct.pack(order + "IIIII", i % 2, time >> 32, time & 0xffffffff,
                                           len(p), len(p)) + p + b"\0" * (-len(p) % 4)
                     + option(order, 2, struct.pack(order + "I", 1 + i % 2)) + end)
    out += block(order, 4, b"\0" * 4)
    out += block(order, 2, struct.pack(order + "HHIIII", 0, 3, 0, 0, 4, 60) + b"abcd")
    return out + block(order, 5, struct.pack(order + "III", 0, 0, 0)
                       + option(order, 5, struct.pack(order + "Q", 7)) + end)


def make_capture():
    small = frames("12-version-refused")
    full = frames("xmpp-direct-12")
    with open(os.path.join(TLS, "xmpp-direct-12.keys"), "rb") as f:
        keys = f.read()
    write("capture", "pcap", pcap("<", 0xa1b2c3d4, 1, full))
    write("capture", "pcap-big", pcap(">", 0xa1b2c3d4, 1, small))
    write("capture", "pcap-nano", pcap("<", 0xa1b23c4d, 1, small))
    write("capture", "pcap-modified", pcap("<", 0xa1b2cd34, 1, small))
    write("capture", "pcap-snaplen", pcap("<", 0xa1b2c3d4, 1, small, 60))
    write("capture", "pcap-raw", pcap("<", 0xa1b2c3d4, 101, [p[14:] for p in small]))
    write("capture", "pcap-cut", pcap("<", 0xa1b2c3d4, 1, small)[:-7])
    write("capture", "pcapng", pcapng("<", full, keys))
    write("capture", "pcapng-big", pcapng(">", small, resolution=9))
    write("capture", "pcapng-twice", pcapng("<", small, resolution=0x8a) + pcapng(">", small[:2]))
    write("capture", "pcapng-cut", pcapng("<", small)[:-30])
    write("capture", "text", b"<?xml version='1.0'?>\n")


# ---- packet ----

def ethernet(kind):
    return b"\2" * 6 + b"\4" * 6 + struct.pack("!H", kind)


def ipv4(protocol, payload, fragment=0, options=b""):
    words = 5 + len(options) // 4
    return struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 7, fragment, 64,
                       protocol, 0) + b"\xc0\0\2\1\xc0\0\2\2" + options + payload


def ipv6(protocol, payload):
    ends = b"\x20\1\x0d\xb8" + b"\0" * 11
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    return head + ends + b"\1" + ends + b"\2" + payload


def tcp(flags, text=b"", options=b""):
    words = 5 + len(options) // 4
    head = struct.pack("!HHIIBBHHH", 40000, 5269, 1000, 0, words << 4, flags, 1000, 0, 0)
    return head + options + text


def udp(text):
    return struct.pack("!HHHH", 40000, 53, 8 + len(text), 0) + text


def packets(link, *all_frames):
    out = bytes([link, 0])
    for flags, p in all_frames:
        out += bytes([flags]) + struct.pack("!H", len(p)) + p
    return out


def make_packet():
    v4, v6 = ipv4(6, tcp(0x18, b"hello")), ipv6(6, tcp(0x18, b"hello"))
    on = ethernet(0x800)
    write("packet", "ethernet", packets(0, (0, on + v4), (0, ethernet(0x86dd) + v6), (1, on + v4)))
    write("packet", "vlan", packets(0, (0, ethernet(0x8100) + b"\0\5\x08\0" + v4),
                                    (0, ethernet(0x88a8) + b"\0\5\x81\0\0\6\x08\0" + v4)))
    write("packet", "mpls", packets(0, (0, ethernet(0x8847) + b"\0\1\0\x40\0\1\1\x40" + v4),
                                    (0, ethernet(0x8847) + b"\0\1\1\x40\0\0\0\0" + on + v4)))
    write("packet", "pppoe", packets(0, (0, ethernet(0x8864) + b"\x11\0\0\1\0\x2f\0\x21" + v4)))
    write("packet", "llc", packets(0, (0, b"\2" * 12 + b"\0\x35\xaa\xaa\3\0\0\0\x08\0" + v4)))
    write("packet", "cooked", packets(1, (0, b"\0\4\0\1\0\6" + b"\2" * 6 + b"\0\0\x08\0" + v4)))
    write("packet", "cooked-2", packets(2, (0, b"\x08\0\0\0\0\0\0\1\0\1\4\6" + b"\2" * 8 + v4)))
    for link, name, head in ((3, "raw", b""), (4, "null", b"\2\0\0\0"), (5, "loop", b"\0\0\0\2"),
                             (6, "ppp", b"\xff\3\0\x21"), (9, "chdlc", b"\x0f\0\x08\0"),
                             (10, "wlan", b"\x08\1\0\0" + b"\2" * 20 + b"\xaa\xaa\3\0\0\0\x08\0"),
                             (12, "radiotap", b"\0\0\x08\0\0\0\0\0\x08\1\0\0" + b"\2" * 20
                              + b"\xaa\xaa\3\0\0\0\x08\0")):
        write("packet", name, packets(link, (0, head + v4), (1, head + v4)))
    big = tcp(0x18, b"x" * 40)
    write("packet", "fragments", packets(
        0, (0, on + ipv4(6, big[:32], 0x2000)), (0, on + ipv4(6, big[32:56], 0x2004)),
        (0, on + ipv4(6, big[40:], 5))))
    write("packet", "fragments-6", packets(
        0, *((0, ethernet(0x86dd) + ipv6(44, struct.pack("!BBHI", 6, 0, at | more, 9) + part))
             for at, more, part in ((0, 1, big[:32]), (32, 0, big[32:])))))
    write("packet", "headers-6", packets(
        0, (0, ethernet(0x86dd) + ipv6(0, b"\x2b\0" + b"\1\4\0\0\0\0" + b"\x3c\0\0\0\0\0\0\0"
                                       + b"\6\0\1\4\0\0\0\0" + big))))
    error = ipv4(1, b"\3\4\0\0\0\0\5\0" + v4[:28])
    error6 = ipv6(58, b"\2\0\0\0\0\0\5\0" + v6[:60])
    write("packet", "icmp", packets(0, (0, on + error), (0, ethernet(0x86dd) + error6),
                                    (0, on + ipv4(1, b"\3\3\0\0\0\0\0\0" + v4[:48]))))
    write("packet", "udp", packets(0, (0, on + ipv4(17, udp(b"question")))))
    write("packet", "options", packets(0, (0, on + ipv4(6, tcp(2, b"", b"\2\4\5\xb4\1\3\3\7"),
                                                        options=b"\x94\4\0\0"))))
    write("packet", "tunnels", packets(0, (0, on + ipv4(4, v4)), (0, on + ipv4(41, v6)),
                                       (0, on + ipv4(47, b"\0\0\x08\0" + v4)),
                                       (0, on + ipv4(17, struct.pack("!HHHH", 9, 4789, 80, 0)
                                                     + b"\x08\0\0\0\0\0\1\0" + on + v4))))


# ---- flow: ports, flags, sequence, more of it, acknowledgement, length, odds, time ----

def make_flow():
    def s(side, flags, seq, ack, length, odd=0, time=1, more=0, ports=0):
        return bytes([side | ports << 1, flags, seq, more, ack, length, odd, time])
    hands = s(0, 2, 9, 0, 0) + s(1, 18, 19, 10, 0) + s(0, 16, 10, 20, 0)
    talk = s(0, 24, 10, 20, 5) + s(1, 24, 20, 15, 50) + s(0, 24, 15, 70, 100)
    bye = s(0, 17, 115, 70, 0) + s(1, 17, 70, 116, 0) + s(0, 16, 116, 71, 0)
    write("flow", "whole", hands + talk + bye)
    write("flow", "order", hands + s(0, 24, 20, 20, 10) + s(0, 24, 30, 20, 10)
          + s(0, 24, 10, 20, 10) + bye)
    write("flow", "gap", hands + s(0, 24, 20, 20, 10) + s(1, 24, 20, 30, 10) * 3 + talk)
    write("flow", "again", hands + talk * 2 + s(0, 24, 8, 20, 20) + s(0, 24, 9, 20, 1))
    write("flow", "cut", hands + s(0, 24, 10, 20, 50, odd=9) + s(0, 24, 60, 20, 50, odd=21) + bye)
    write("flow", "midstream", talk + s(1, 4, 70, 115, 0))
    write("flow", "refused", s(0, 2, 9, 0, 0) + s(1, 20, 0, 10, 0))
    write("flow", "icmp", s(0, 2, 9, 0, 0) * 3 + s(0xc0, 2, 9, 0, 0))
    write("flow", "idle", s(0, 2, 9, 0, 0, time=254) + hands + s(0, 24, 10, 20, 5, time=255) * 8)
    write("flow", "many", b"".join(s(0, 2, 9, 0, 0, ports=p) + s(0, 24, 30, 0, 99, ports=p)
                                   for p in (0, 1, 2, 3)) * 3)
    write("flow", "hints", talk.replace(b"\x00\x01", b"\x05\x01") + s(1, 24, 70, 115, 9, odd=1)
          + s(0, 24, 115, 79, 9, odd=5) + s(0, 24, 124, 79, 9, odd=9))
    write("flow", "turned", s(1, 24, 20, 15, 50) + hands + talk + bye)


# ---- xmpp ----

STREAM = (b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' "
          b"xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' "
          b"version='1.0' from='%s' to='%s'%s>")
CALL = (0, STREAM % (b"a.example", b"b.example", b""))
ANSWER = STREAM % (b"b.example", b"a.example", b" id='x1'")
NS = b"urn:ietf:params:xml:ns:xmpp-"


def steps(about, *said):
    out = bytes(about)
    for kind, text in said:
        out += bytes([kind]) + struct.pack("!H", len(text)) + text
    return out


def features(what):
    return b"<stream:features>" + what + b"</stream:features>"


def error(condition):
    return (b"<stream:error><" + condition + b" xmlns='" + NS + b"streams'/><text xmlns='" + NS
            + b"streams'>why</text></stream:error></stream:stream>")


def content(name):
    """What the two ends say in a capture, segment by segment."""
    out = []
    for p in frames(name):
        words = p[46] >> 4
        text = p[34 + 4 * words:]
        if text:
            out.append((0 if p[26:30] == b"\xc0\0\2\1" else 1, text))
    return out


def dns(answer):
    name = b"\x0c_xmpp-server\4_tcp\1b\7example\0"
    head = struct.pack("!HHHHHH", 7, 0x8180 if answer else 0x100, 1, 1 if answer else 0, 0, 0)
    record = b"\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x11\0\5\0\0\x14\x95\1h\7example\0" if answer else b""
    return head + name + b"\0\x21\0\1" + record


def make_xmpp():
    dialback = features(b"<dialback xmlns='urn:xmpp:features:dialback'/>")
    key = b"<db:result from='a.example' to='b.example'>0123</db:result>"
    valid = b"<db:result from='b.example' to='a.example' type='valid'/>"
    note = b"<message from='u@a.example' to='v@b.example'><body>x</body></message>"
    tls = b"<starttls xmlns='" + NS + b"tls'><required/></starttls>"
    sasl = b"<mechanisms xmlns='" + NS + b"sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
    auth = b"<auth xmlns='" + NS + b"sasl' mechanism='EXTERNAL'>=</auth>"
    bye = b"</stream:stream>"
    write("xmpp", "dialback", steps((32, 0), CALL, (1, ANSWER + dialback), (0, key), (1, valid),
                                    (0, note), (0, bye), (1, bye)))
    write("xmpp", "other-port", steps((3, 0), CALL, (1, ANSWER + dialback), (0, key), (1, valid)))
    write("xmpp", "verify", steps(
        (36, 0), CALL, (1, ANSWER + dialback),
        (0, b"<db:verify from='a.example' to='b.example' id='q'>1</db:verify>"),
        (1, b"<db:verify from='b.example' to='a.example' id='q' type='invalid'/>")))
    write("xmpp", "refused", steps((32, 1), CALL, (1, ANSWER + error(b"host-unknown"))))
    write("xmpp", "external", steps(
        (33, 0), CALL, (1, ANSWER + features(sasl)), (0, auth),
        (1, b"<failure xmlns='" + NS + b"sasl'><not-authorized/><text>expired</text></failure>")))
    write("xmpp", "no-tls", steps((32, 2), CALL, (1, ANSWER + features(tls)), (0, tls),
                                  (1, b"<failure xmlns='" + NS + b"tls'/></stream:stream>")))
    write("xmpp", "silent", steps((32, 0), CALL, (12, b"x" * 90),
                                  (0, error(b"connection-timeout"))))
    write("xmpp", "web", steps((32, 0), CALL, (1, b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    write("xmpp", "gap", steps((32, 0), CALL, (10, b"12345"), (1, dialback), (0, key),
                               (11, b"1"), (1, valid)))
    write("xmpp", "malformed", steps((32, 0), CALL, (1, ANSWER + dialback), (0, b"<a><b></a>"),
                                     (1, error(b"not-well-formed"))))
    write("xmpp", "trunk", steps((33, 0), CALL,
                                 (1, ANSWER + b"<features xmlns='urn:xmppedge:trunk:0'/>")))
    write("xmpp", "bidi", steps((32, 0), CALL, (1, ANSWER + features(
        b"<bidi xmlns='urn:xmpp:features:bidi'/>")), (0, b"<bidi xmlns='urn:xmpp:bidi'/>")))
    write("xmpp", "dns", steps((36, 4), (15, dns(False)), (14, dns(True)), (15, dns(True)), CALL))
    for name in ("xmpp-starttls-12", "xmpp-starttls-13", "xmpp-direct-12", "xmpp-direct-13"):
        write("xmpp", name, steps((32, 0), *content(name)))
    write("xmpp", "alert", steps((32, 1), *content("12-server-untrusted")))
    write("xmpp", "version", steps((32, 1), *content("12-version-refused")))


def make_tls(program):
    for name in ("12-gcm128-mutual", "12-cbc-mutual", "12-chacha-empty", "12-renegotiate",
                 "12-resume-ticket", "12-server-untrusted", "12-version-refused",
                 "13-ccm8-notasked", "13-chacha-empty", "13-early", "13-gcm256-ec-mutual",
                 "13-keyupdate", "13-later-auth", "13-required-missing", "13-resume",
                 "xmpp-direct-13"):
        paths = [os.path.join(TLS, name + end) for end in (".pcap", ".keys")]
        os.makedirs(os.path.join(HERE, "corpus", "tls"), exist_ok=True)
        subprocess.run([program] + paths + [os.path.join(HERE, "corpus", "tls", name)], check=True)


make_capture()
make_packet()
make_flow()
make_xmpp()
if len(sys.argv) > 1:
    make_tls(sys.argv[1])
