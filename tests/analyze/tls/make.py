#!/usr/bin/env python3
"""Makes the captures of this directory: openssl s_client and s_server on loopback, through a proxy that
writes what it forwards as packets.  NAME.pcap and NAME.keys; what they must show is in test_tls_stage.c."""
import os, socket, struct, subprocess, sys, tempfile, threading, time

OUT = os.path.dirname(os.path.abspath(__file__))
TMP = tempfile.mkdtemp()
port = [24100]


def run(*a):
    subprocess.run(a, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates():
    os.chdir(TMP)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650",
        "-subj", "/CN=Test CA")
    for name, key in (("rsa", ["-newkey", "rsa:2048"]), ("ec", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
                      ("ed", ["-newkey", "ed25519"])):
        open("ext", "w").write("subjectAltName=DNS:%s.example,DNS:*.%s.example,otherName:1.3.6.1.5.5.7.8.5;UTF8:x.%s.example,"
                               "otherName:1.3.6.1.5.5.7.8.7;IA5:_xmpp-server.s.%s.example\n" % ((name,) * 4))
        run("openssl", "req", *key, "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/O=Test/CN=cn.%s.example" % name)
        run("openssl", "x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days",
            "3000", "-extfile", "ext", "-out", name + ".pem")
    run("cp", "ca.pem", OUT + "/ca.pem")


class Recorder:
    def __init__(self, path, listen, target):
        self.f = open(path, "wb")
        self.f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        self.seq = [1000, 5000]
        self.lock = threading.Lock()
        self.time = 1800000000.0
        self.l = socket.socket()
        self.l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.l.bind(("127.0.0.1", listen))
        self.l.listen(5)
        self.target = target
        self.n = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def packet(self, side, flags, data=b""):
        src, dst = (40000 + self.n, 5270) if side == 0 else (5270, 40000 + self.n)
        a, b = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
        if side:
            a, b = b, a
        tcp = struct.pack("!HHIIBBHHH", src, dst, self.seq[side], self.seq[1 - side], 0x50, flags, 65000, 0, 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, a, b)
        s = sum(struct.unpack("!10H", ip)); s = (s & 0xffff) + (s >> 16); s = (s & 0xffff) + (s >> 16)
        ip = ip[:10] + struct.pack("!H", s ^ 0xffff) + ip[12:]
        ph = a + b + struct.pack("!BBH", 0, 6, 20 + len(data)) + tcp + data + (b"\0" if len(data) % 2 else b"")
        s = sum(struct.unpack("!%dH" % (len(ph) // 2), ph))
        while s >> 16: s = (s & 0xffff) + (s >> 16)
        tcp = tcp[:16] + struct.pack("!H", s ^ 0xffff) + tcp[18:]
        p = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + tcp + data
        self.time += 0.001
        self.f.write(struct.pack("<IIII", int(self.time), int(self.time % 1 * 1e6), len(p), len(p)) + p)
        self.f.flush()
        self.seq[side] += len(data) + (1 if flags & 3 else 0)

    def accept(self):
        while True:
            c, _ = self.l.accept()
            s = socket.create_connection(("127.0.0.1", self.target))
            self.n += 1
            self.seq = [1000, 5000]
            self.packet(0, 2); self.packet(1, 0x12); self.packet(0, 0x10)
            for side, a, b in ((0, c, s), (1, s, c)):
                threading.Thread(target=self.pump, args=(side, a, b), daemon=True).start()

    def pump(self, side, a, b):
        while True:
            try:
                d = a.recv(65536)
            except OSError:
                d = b""
            with self.lock:
                if not d:
                    self.packet(side, 0x11)
                    break
                for i in range(0, len(d), 1448):
                    self.packet(side, 0x18, d[i:i + 1448])
            try:
                b.sendall(d)
            except OSError:
                break
        try:
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def scene(name, server, client, say=("C hello from client\n", "S hello from server\n"), again=None, cert="rsa"):
    """`say`: lines prefixed by C or S, typed one after the other; `again`: options of a second client."""
    p = port[0]; port[0] += 2
    keys = os.path.join(OUT, name + ".keys")
    if os.path.exists(keys): os.unlink(keys)
    srv = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:%d" % p, "-cert", cert + ".pem", "-key", cert + ".key",
                            "-CAfile", "ca.pem", "-cert_chain", "ca.pem"] + server, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    rec = Recorder(os.path.join(OUT, name + ".pcap"), p + 1, p)
    for options in [client] + ([again] if again else []):
        cli = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % (p + 1), "-CAfile", "ca.pem", "-servername",
                                "sni.example", "-alpn", "xmpp-server", "-keylogfile", keys] + options, stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.4)
        for line in say:
            try:
                who = cli if line[0] == "C" else srv
                who.stdin.write(line[2:].encode()); who.stdin.flush()
            except OSError:
                pass
            time.sleep(0.25)
        try:
            cli.stdin.close()
        except OSError:
            pass
        try:
            cli.wait(3)
        except subprocess.TimeoutExpired:
            cli.kill()
        time.sleep(0.1)
    srv.kill()
    print(name, os.path.getsize(os.path.join(OUT, name + ".pcap")), os.path.exists(keys))


certificates()
A = ["-alpn", "xmpp-server"]
V = A + ["-verify", "5"]
C = ["-cert", "rsa.pem", "-key", "rsa.key", "-cert_chain", "ca.pem"]
E = ["-cert", "ec.pem", "-key", "ec.key"]
scenes = {
    "12-gcm128-mutual": (V, ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"] + C),
    "12-gcm256-notasked": (A, ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], {"cert": "ec"}),
    "12-chacha-empty": (V, ["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"]),
    "12-ccm-mutual": (V + ["-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM"] + E, {"cert": "ec"}),
    "12-ccm8-mutual": (V + ["-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM8:@SECLEVEL=0"] + E, {"cert": "ec"}),
    "12-cbc-mutual": (V, ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"] + C),
    "12-resume-ticket": (V, ["-tls1_2", "-sess_out", "t12"] + C, {"again": ["-tls1_2", "-sess_in", "t12"] + C}),
    "12-resume-id": (V + ["-no_ticket"], ["-tls1_2", "-sess_out", "i12"] + C, {"again": ["-tls1_2", "-sess_in", "i12"] + C}),
    "12-renegotiate": (V + ["-client_renegotiation"], ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"] + C,
                       {"say": ("C before\n", "C R\n", "C after\n", "S answer\n")}),
    "13-gcm128-mutual": (V, ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"] + C),
    "13-gcm256-ec-mutual": (V, ["-tls1_3"] + E, {"cert": "ec"}),
    "13-ed25519-mutual": (V, ["-tls1_3", "-cert", "ed.pem", "-key", "ed.key"], {"cert": "ed"}),
    "13-chacha-empty": (V, ["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]),
    "13-ccm8-notasked": (A + ["-ciphersuites", "TLS_AES_128_CCM_8_SHA256"], ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"]),
    "13-keyupdate": (V, ["-tls1_3"] + C, {"say": ("C one\n", "C K\n", "C two\n", "S three\n", "C k\n", "C four\n", "S K\n",
                                                  "S five\n", "C six\n")}),
    "13-retry": (V + ["-groups", "P-384"], ["-tls1_3", "-groups", "X25519:P-384"] + C),
    "13-resume": (V, ["-tls1_3", "-sess_out", "t13"] + C, {"again": ["-tls1_3", "-sess_in", "t13"] + C}),
    "13-early": (A + ["-early_data"], ["-tls1_3", "-sess_out", "e13"], {"again": ["-tls1_3", "-sess_in", "e13", "-early_data", "early"]}),
    "13-later-auth": (V[:2], ["-tls1_3", "-enable_pha"] + C, {"say": ("C before\n", "S c\n", "C after\n", "S answer\n")}),
    "13-padded-notasked": (A, ["-tls1_3", "-record_padding", "512"]),
    "13-large": (V, ["-tls1_3"] + C, {"say": ["C " + "0123456789abcdef" * 3000 + "\n", "S " + "fedcba9876543210" * 3000 + "\n"]}),
    "13-required-missing": (A + ["-Verify", "5", "-verify_return_error"], ["-tls1_3"]),
    "12-required-missing": (A + ["-Verify", "5", "-verify_return_error"], ["-tls1_2"]),
    "13-server-untrusted": (A, ["-tls1_3", "-verify_return_error", "-CAfile", "rsa.pem"]),
    "12-server-untrusted": (A, ["-tls1_2", "-verify_return_error", "-CAfile", "rsa.pem"]),
    "12-version-refused": (A + ["-tls1_3"], ["-tls1_2"]),
}
with open("early", "w") as f:
    f.write("early data from the client\n")
for name, s in scenes.items():
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        scene(name, s[0], s[1], **(s[2] if len(s) > 2 else {}))
