#!/usr/bin/env python3
"""gen.py -- captures of conversations whose truth is known

    gen.py --list                  names of all scenes
    gen.py SCENE FOLDER [odd]      writes SCENE.pcap, SCENE.keys and ca.pem, and prints the options and the truth;
                                   odd: pcapng, with the keys inside, in small segments out of order and in fragments

  gen_cert.py    certificates            gen_rows.py    scenes of what works
  gen_wire.py    packets, files          gen_fail.py    scenes of what fails or breaks a rule
  gen_talk.py    TCP, TLS, XMPP, DNS     gen_odd.py     scenes of what is easily misread
  golden.t       runs the analyzer over all of them and their variations
"""

import json
import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import gen_cert
import gen_fail   # noqa: F401  registers its scenes
import gen_odd    # noqa: F401
import gen_rows   # noqa: F401
import gen_talk
import gen_wire

ADDRESSES = ['--external', gen_talk.HOSTS['edge'] + ',' + gen_talk.HOSTS['edge6'], '--internal', gen_talk.HOSTS['inner']]


def options(scene):
    return (ADDRESSES if scene.options is None else scene.options) + ['--ca', scene.ca.path]


def odd(scene):
    """Work for every stage."""
    sizes = random.Random(1)
    packets = gen_wire.split(scene.packets, lambda: sizes.randrange(20, 1200))
    return gen_wire.pcapng(gen_wire.fragments(gen_wire.exchange(packets, 1)), secrets=scene.keys)


def main(arguments):
    if arguments == ['--list']:
        print('\n'.join(sorted(gen_talk.scenes)))
        return 0
    if len(arguments) < 2 or arguments[0] not in gen_talk.scenes or arguments[2:] not in ([], ['odd']):
        sys.exit(__doc__)
    name, folder = arguments[:2]
    os.makedirs(folder, exist_ok=True)
    scene = gen_talk.Scene(name, gen_cert.Authority(folder, 'Test Authority'), folder)
    with open(os.path.join(folder, name + '.pcap'), 'wb') as f:
        f.write(odd(scene) if arguments[2:] else gen_wire.pcap(scene.packets))
    print('xmppedge-analyze %s -k %s %s.pcap' % (' '.join(options(scene)), scene.key_path, os.path.join(folder, name)))
    for c in scene.calls:
        if c.expected:
            print(json.dumps(c.expected))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
