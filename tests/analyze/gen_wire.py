"""gen_wire.py -- packets, capture files, and the same packets seen by other means

A Packet knows what TCP, UDP or ICMP say; link layer, VLANs and file format are added when a capture is
written.  Variations are functions from a list of packets to another one.  Those that lose nothing must not
change what the analyzer says; those that lose something may only make it less certain.
"""

import copy
import ipaddress
import random
import struct

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MSS = 1440
ETHERNET, NULL, RAW, LOOP, SLL, SLL2 = 1, 0, 101, 108, 113, 276


def address(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    if len(data) & 1:
        data += b'\0'
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Packet:
    """One IP packet.  proto: 6, 17, 1 (ICMP), 58 (ICMPv6; body without its checksum)."""

    __slots__ = ('time', 'zone', 'source', 'target', 'proto', 'sport', 'dport', 'seq', 'ack', 'flags', 'payload',
                 'options', 'ip_id', 'snap', 'bad_checksum', 'fragment', 'ttl', 'window')

    def __init__(self, time, zone, source, target, proto, sport=0, dport=0, seq=0, ack=0, flags=0, payload=b'',
                 options=b'', ip_id=0, ttl=60, window=502):
        self.time, self.zone, self.source, self.target, self.proto = time, zone, source, target, proto
        self.sport, self.dport, self.seq, self.ack, self.flags = sport, dport, seq, ack, flags
        self.payload, self.options, self.ip_id, self.ttl, self.window = payload, options, ip_id, ttl, window
        self.snap = None           # bytes of the frame that were captured; None: all
        self.bad_checksum = False
        self.fragment = None       # (offset, more, bytes of the transport layer, id)

    def copy(self, **change):
        p = copy.copy(self)
        for k, v in change.items():
            setattr(p, k, v)
        return p

    def flow(self):
        a, b = (self.source, self.sport), (self.target, self.dport)
        return (a, b) if a < b else (b, a)

    def side(self):
        return self.source, self.sport, self.target, self.dport

    def span(self):
        return len(self.payload) + (self.flags & SYN != 0) + (self.flags & FIN != 0)

    # ---- bytes ----

    def pseudo(self, length):
        if len(self.source) == 4:
            return self.source + self.target + struct.pack('!BBH', 0, self.proto, length)
        return self.source + self.target + struct.pack('!IHBB', length, 0, 0, self.proto)

    def transport(self):
        if self.proto == 6:
            head = struct.pack('!HHIIBBHHH', self.sport, self.dport, self.seq & 0xffffffff, self.ack & 0xffffffff,
                               (20 + len(self.options)) << 2, self.flags, self.window, 0, 0) + self.options
            at = 16
        elif self.proto == 17:
            head, at = struct.pack('!HHHH', self.sport, self.dport, 8 + len(self.payload), 0), 6
        else:
            head, at = b'', 2
        whole = bytearray(head + self.payload)
        c = checksum((b'' if self.proto == 1 else self.pseudo(len(whole))) + bytes(whole))
        whole[at:at + 2] = struct.pack('!H', c ^ 0x1234 if self.bad_checksum else c)
        return bytes(whole)

    def ip(self):
        body = self.transport() if self.fragment is None else self.fragment[2]
        if len(self.source) == 4:
            offset, more = self.fragment[:2] if self.fragment else (0, False)
            bits = (more << 13 | offset // 8) if self.fragment else 0x4000
            head = bytearray(struct.pack('!BBHHHBBH', 0x45, 0, (20 + len(body)) & 0xffff, self.ip_id & 0xffff, bits,
                                         self.ttl, self.proto, 0) + self.source + self.target)
            if 20 + len(body) > 0xffff:
                head[2:4] = b'\0\0'            # as a sending host shows segments before offload
            head[10:12] = struct.pack('!H', checksum(bytes(head)))
            return bytes(head) + body
        proto = self.proto
        if self.fragment:
            body = struct.pack('!BBHI', proto, 0, self.fragment[0] | self.fragment[1], self.fragment[3]) + body
            proto = 44
        return struct.pack('!IHBB', 6 << 28, len(body), proto, self.ttl) + self.source + self.target + body


# ---- link layers ----

def mac(ip):
    return b'\x02\x10' + ip[-4:]


def ether(p):
    return b'\x86\xdd' if len(p.source) == 16 else b'\x08\x00'


def link(p, kind, tags=()):
    ip = p.ip()
    six = len(p.source) == 16
    if kind == ETHERNET:
        return mac(p.target) + mac(p.source) + b''.join(tags) + ether(p) + ip
    if kind == SLL:
        return struct.pack('!HHH', 4, 1, 6) + mac(p.source) + b'\0\0' + ether(p) + ip
    if kind == SLL2:
        return ether(p) + struct.pack('!HIHBB', 0, 3, 1, 4, 6) + mac(p.source) + b'\0\0' + ip
    if kind == NULL:
        return struct.pack('<I', 30 if six else 2) + ip
    if kind == LOOP:
        return struct.pack('>I', 24 if six else 2) + ip
    return ip


def vlan(number):
    return b'\x81\x00' + struct.pack('!H', number)


QINQ = (b'\x88\xa8' + struct.pack('!H', 20), vlan(100))


# ---- tunnels ----

def outer(proto, body):
    """IPv4 between the ends of a tunnel."""
    head = bytearray(struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 0, 0x4000, 64, proto, 0)
                     + address('172.31.0.1') + address('172.31.0.2'))
    head[10:12] = struct.pack('!H', checksum(bytes(head)))
    return bytes(head) + body


def datagram(port, body):
    return outer(17, struct.pack('!HHHH', 50000, port, 8 + len(body), 0) + body)


# What is around a packet, as far as the outer IP header.
TUNNELS = {
    'ip-in-ip': lambda p: outer(41 if len(p.source) == 16 else 4, p.ip()),
    'gre': lambda p: outer(47, b'\0\0' + ether(p) + p.ip()),
    'gre-with-key': lambda p: outer(47, b'\xb0\0' + ether(p) + b'\0\0\0\0\0\0\0\7\0\0\0\1' + p.ip()),
    'gre-in-udp': lambda p: datagram(4754, b'\x20\0' + ether(p) + b'\0\0\0\7' + p.ip()),
    'erspan-2': lambda p: outer(47, b'\x10\0\x88\xbe\0\0\0\1\x10\7\0\1\0\0\0\0' + link(p, ETHERNET)),
    'erspan-3': lambda p: outer(47, b'\x10\0\x22\xeb\0\0\0\1\x20\7\0\1' + bytes(7) + b'\1' + bytes(8)
                                + link(p, ETHERNET)),
    'vxlan': lambda p: datagram(4789, b'\x08\0\0\0\0\0\7\0' + link(p, ETHERNET)),
    'vxlan-gpe': lambda p: datagram(4790, b'\x0c\0\0\4\0\0\7\0\x0f\xc2\2\3\0\0\1\xff' + link(p, ETHERNET)),
    'geneve': lambda p: datagram(6081, b'\2\0\x65\x58\0\0\7\0\1\2\x80\1\0\0\0\0' + link(p, ETHERNET)),
    'gtp-u': lambda p: datagram(2152, struct.pack('!BBHIHBBI', 0x34, 255, 8 + len(p.ip()), 7, 0, 0, 0x85, 0x01090500)
                                + p.ip()),
    'mpls-in-udp': lambda p: datagram(6635, b'\0\1\0\x40\0\1\1\x40' + p.ip()),
    'l2tp': lambda p: datagram(1701, b'\0\2\0\1\0\2\xff\3' + (b'\0\x57' if len(p.source) == 16 else b'\0\x21') + p.ip()),
}


def provider(p):
    """802.1ah, the frame of a customer in that of a provider."""
    return b'\2\2\2\2\2\2\4\4\4\4\4\4\x88\xa8\0\5\x88\xe7\0\0\0\7' + link(p, ETHERNET)


# ---- files ----

def pcap(packets, order='<', nano=False, kind=ETHERNET, tags=(), frame=None):
    """frame: what makes the bytes of a packet, when it is not the link layer."""
    magic = 0xa1b23c4d if nano else 0xa1b2c3d4
    out = [struct.pack(order + 'IHHiIII', magic, 2, 4, 0, 0, 262144, kind)]
    for p in packets:
        whole = frame(p) if frame else link(p, kind, tags)
        cut = whole if p.snap is None else whole[:p.snap]
        out.append(struct.pack(order + 'IIII', p.time // 10**9, p.time % 10**9 // (1 if nano else 1000), len(cut),
                               len(whole)) + cut)
    return b''.join(out)


def block(order, kind, body):
    body += b'\0' * (-len(body) % 4)
    n = 12 + len(body)
    return struct.pack(order + 'II', kind, n) + body + struct.pack(order + 'I', n)


def option(order, code, value):
    return struct.pack(order + 'HH', code, len(value)) + value + b'\0' * (-len(value) % 4)


def pcapng(packets, order='<', interfaces=((ETHERNET, 6),), zones=None, secrets=b'', simple_times=False):
    """interfaces: (link type, decimal digits of a second); zones: zone of a packet to its interface."""
    out = [block(order, 0x0a0d0d0a, struct.pack(order + 'IHHq', 0x1a2b3c4d, 1, 0, -1))]
    for i, (kind, digits) in enumerate(interfaces):
        options = option(order, 2, b'eth%d' % i)
        if digits != 6 or not simple_times:
            options += option(order, 9, bytes([digits]))
        out.append(block(order, 1, struct.pack(order + 'HHI', kind, 0, 0) + options + option(order, 0, b'')))
    if secrets:
        out.append(block(order, 10, struct.pack(order + 'II', 0x544c534b, len(secrets)) + secrets))
    for p in packets:
        i = zones[p.zone] if zones else 0
        kind, digits = interfaces[i]
        frame = link(p, kind)
        cut = frame if p.snap is None else frame[:p.snap]
        ticks = p.time // 10**(9 - digits)
        out.append(block(order, 6, struct.pack(order + 'IIIII', i, ticks >> 32, ticks & 0xffffffff, len(cut),
                                               len(frame)) + cut + b'\0' * (-len(cut) % 4)))
    return b''.join(out)


# ---- the same content in other packets ----

def split(packets, sizes, ids=0x8000):
    """TCP content in smaller segments; sizes() gives the next one."""
    out = []
    for p in packets:
        if p.proto != 6 or len(p.payload) < 2 or p.fragment:
            out.append(p)
            continue
        at = step = 0
        while at < len(p.payload):
            n = max(1, sizes())
            last = at + n >= len(p.payload)
            ids += 1
            out.append(p.copy(payload=p.payload[at:at + n], seq=p.seq + at, time=p.time + step * 100, ip_id=ids & 0xffff or 1,
                              flags=p.flags if last else p.flags & ~(FIN | PSH)))
            at += n
            step += 1
    return out


def merge(packets):
    """What a host with segmentation offload shows: adjacent segments of one side are one, up to 64 KiB."""
    out = []
    for p in packets:
        q = out[-1] if out else None
        if (q is not None and p.proto == 6 and q.proto == 6 and q.side() == p.side() and q.payload and p.payload
                and not (q.flags | p.flags) & (SYN | RST) and not q.flags & FIN and q.seq + len(q.payload) == p.seq
                and len(q.payload) + len(p.payload) < 64000 and p.time - q.time < 10**6):
            out[-1] = q.copy(payload=q.payload + p.payload, flags=q.flags | p.flags, ack=p.ack)
        else:
            out.append(p)
    return out


def exchange(packets, seed, much=0.3):
    """Neighbours of one direction of a connection change places; the times stay in order."""
    r = random.Random(seed)
    out = list(packets)
    i = 0
    while i + 1 < len(out):
        p, q = out[i], out[i + 1]
        if p.proto == 6 and q.proto == 6 and p.side() == q.side() and not (p.flags | q.flags) & (SYN | RST) \
                and q.time - p.time < 10**8 and (p.payload or p.flags & FIN) and (q.payload or q.flags & FIN) \
                and r.random() < much:
            out[i], out[i + 1] = q.copy(time=p.time), p.copy(time=q.time)
            i += 1
        i += 1
    return out


def twice(packets):
    """A mirror port that shows each packet going in and coming out."""
    out = []
    for p in packets:
        out.append(p)
        out.append(p.copy(time=p.time + 3000))
    return out


def renumber(packets):
    """Each host counts its packets, as hosts do."""
    last, out = {}, []
    for p in packets:
        last[p.source] = last.get(p.source, p.ip_id) + 1
        out.append(p.copy(ip_id=last[p.source] & 0x7fff or 1))
    return out


def again(packets, seed):
    """Some segments were sent again although they had arrived; at most two of a side, before the other side answers."""
    r = random.Random(seed)
    out, done = [], {}
    for p in packets:
        out.append(p)
        if p.proto == 6 and p.payload and not p.flags & (FIN | RST | SYN) and r.random() < 0.2 \
                and done.get(p.side(), 0) < 2:
            done[p.side()] = done.get(p.side(), 0) + 1
            out.append(p.copy(time=p.time + 9 * 10**6))
    return renumber(sorted(out, key=lambda p: p.time))


def fragments(packets, size=576):
    out, number = [], 0x2000
    for p in packets:
        body = p.transport()
        if len(body) <= size or p.snap is not None or p.proto in (1, 58):
            out.append(p)
            continue
        number += 1
        parts = range(0, len(body), size // 8 * 8)
        for i, at in enumerate(parts):
            more = at + size // 8 * 8 < len(body)
            out.append(p.copy(fragment=(at, more, body[at:at + size // 8 * 8], number), ip_id=number, time=p.time + i * 1000))
    return out


def offload(packets, hosts):
    """The machine that captures sends with checksums that the card fills in later."""
    return [p.copy(bad_checksum=True) if p.source in hosts and p.proto == 6 else p for p in packets]


# ---- captures that lack something ----

def snaplen(packets, n):
    return [p.copy(snap=n) for p in packets]


def lose(packets, seed, much):
    r = random.Random(seed)
    return [p for p in packets if r.random() >= much]


def one_direction(packets, hosts, there):
    """Only what these hosts send, or only what they get."""
    return [p for p in packets if (p.source in hosts) == there]


def from_the_middle(packets, seed):
    """Each connection is seen from some packet on."""
    r = random.Random(seed)
    count, start, seen, out = {}, {}, {}, []
    for p in packets:
        count[p.flow()] = count.get(p.flow(), 0) + 1
    for f, n in count.items():
        start[f] = r.randrange(1, max(2, n))
    for p in packets:
        seen[p.flow()] = seen.get(p.flow(), 0) + 1
        if p.proto != 6 or seen[p.flow()] > start[p.flow()]:
            out.append(p)
    return out


def until(packets, share):
    return packets[:max(1, int(len(packets) * share))]


def since(packets, share):
    return packets[int(len(packets) * share):]
