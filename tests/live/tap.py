"""tap.py -- tests as sentences, results as TAP.

    from tap import test, run, check, equal
    @test
    def a_message_arrives(lab): ...
    run(setup)          # setup() gives what every test receives

A script accepts words: only tests whose names contain one of them are run.  Exit status: 0 all passed,
1 some failed, 99 the harness broke.  A test that raises Skip is reported as skipped with its reason.
"""

import os
import sys
import time
import traceback

tests = []


class Skip(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(found, wanted, what='value'):
    if found != wanted:
        raise AssertionError('%s: expected %r, found %r' % (what, wanted, found))


def note(text):
    for line in str(text).splitlines():
        print('# ' + line, flush=True)


def skip_all(reason):
    print('1..0 # SKIP ' + reason, flush=True)
    sys.exit(0)


def sentence(function):
    return getattr(function, 'sentence', function.__name__.replace('_', ' '))


def chosen():
    words = sys.argv[1:]
    return [t for t in tests if not words or any(w in sentence(t) for w in words)]


def run_one(number, function, world, lab):
    started = time.monotonic()
    if lab:
        lab.mark_logs()
    try:
        function(world)
    except Skip as e:
        print('ok %d - %s # SKIP %s' % (number, sentence(function), e), flush=True)
        return True
    except Exception as e:
        print('not ok %d - %s' % (number, sentence(function)), flush=True)
        note('%s: %s' % (type(e).__name__, e))
        for frame in traceback.extract_tb(e.__traceback__)[1:]:
            note('  %s:%d %s' % (os.path.basename(frame.filename), frame.lineno, frame.line))
        if lab:
            lab.dump_logs()
        return False
    print('ok %d - %s # %.1f s' % (number, sentence(function), time.monotonic() - started), flush=True)
    return True


def run(setup, lab_of=lambda world: getattr(world, 'lab', world)):
    """Run the chosen tests in the order in which they are written."""
    selected = chosen()
    if not selected:
        print('Bail out! no test has a name with one of: ' + ' '.join(sys.argv[1:]), flush=True)
        sys.exit(2)
    started = time.monotonic()
    try:
        world = setup()
    except Exception:
        note('the harness broke before the first test')
        note(traceback.format_exc())
        lab = getattr(sys.modules.get('lab'), 'latest', None)
        if lab:
            lab.dump_logs()
        sys.exit(99)
    lab = lab_of(world)
    print('1..%d' % len(selected), flush=True)
    note('ready after %.1f s' % (time.monotonic() - started))
    failed = [f for i, f in enumerate(selected, 1) if not run_one(i, f, world, lab)]
    if lab:
        lab.close()
    note('%d of %d failed, %.1f s' % (len(failed), len(selected), time.monotonic() - started))
    sys.exit(1 if failed else 0)
