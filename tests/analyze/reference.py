"""reference.py -- what --json-fields promises, held against what --json writes

    Reference(PROGRAM).wrong(line)   sentences about a line that is not as it is described
    .silent()                        fields that never said anything, after all lines
"""

import re
import subprocess

HEADING = re.compile(r'^(LINE|OBJECT) (.*)$')
FIELD = re.compile(r'^  ([a-z_]\S*) +(\S+)(?: {2,}(.*))?$')
TIME = re.compile(r'^-?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$')


def is_number(x):
    return isinstance(x, int) and not isinstance(x, bool) and x >= 0


BASIC = {
    'number': is_number,
    'bool': lambda x: isinstance(x, bool),
    'seconds': lambda x: isinstance(x, float),
    'text': lambda x: isinstance(x, str),
    'sentence': lambda x: isinstance(x, str),
    'address': lambda x: isinstance(x, str) and re.fullmatch(r'[0-9a-f.:]*', x) is not None,
    'time': lambda x: x is None or isinstance(x, str) and TIME.match(x) is not None,
}


class Reference:
    def __init__(self, program):
        text = subprocess.run([program, '--json-fields'], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.lines, self.objects, self.words, self.unexplained = [], {}, {}, []
        self.spoken = set()
        fields = None
        for line in text.splitlines():
            heading = HEADING.match(line)
            if heading and heading.group(1) == 'LINE':
                fields = {}
                self.lines.append((dict(re.findall(r'"(\w+)":"([\w-]+)"', heading.group(2))), fields))
            elif heading:
                fields = self.objects[heading.group(2)] = {}
            elif line == 'WORDS':
                fields = None
            elif fields is not None and FIELD.match(line):
                name, kind, means = FIELD.match(line).groups()
                fields[name] = kind
                if not means:
                    self.unexplained.append(name)
        self.schema = int(re.match(r'schema (\d+)\n', text).group(1))
        for name, some in re.findall(r'^  ([a-z-]+) {2,}(.*(?:\n {3,}.*)*)', text[text.index('\nWORDS\n'):], re.M):
            self.words[name] = set(re.split(r', ', ' '.join(some.split())))

    def fields_of(self, line):
        """The record that fits best, and its fields."""
        best = ({}, None)
        for begins, fields in self.lines:
            if all(line.get(k) == v for k, v in begins.items()) and len(begins) > len(best[0]):
                best = (begins, fields)
        return best

    def wrong(self, line):
        begins, fields = self.fields_of(line)
        if fields is None:
            return ['a line that is not described: %.80s' % line]
        name = '/'.join(begins.values())
        return self.wrong_object(name, {k: v for k, v in line.items() if k not in begins or k in fields}, fields)

    def wrong_object(self, where, x, fields):
        out = []
        known = set(fields) | {k + '_epoch' for k, kind in fields.items() if kind == 'time'}
        out += ['%s: %s is not described' % (where, k) for k in x if k not in known]
        out += ['%s: %s is not there' % (where, k) for k in known if k not in x]
        for k, kind in fields.items():
            if k in x:
                if x[k] not in (None, '', 0, False, [], {}):
                    self.spoken.add((where, k))
                out += self.wrong_value(where, k, x[k], kind)
        return out

    def wrong_value(self, where, name, x, kind):
        if kind.endswith('?'):
            return [] if x is None else self.wrong_value(where, name, x, kind[:-1])
        if kind[0] == '[':
            return [y for v in x for y in self.wrong_value(where, name, v, kind[1:-1])]
        if kind[0] == '{':
            return [y for k, v in x.items() for y in self.wrong_value(where, name, k, kind[1:-1])
                    + ([] if is_number(v) and v > 0 else ['%s %s: %r is %r' % (where, name, k, v)])]
        if kind in BASIC:
            good = BASIC[kind](x)
        elif kind in self.objects:
            return self.wrong_object(kind, x, self.objects[kind])
        else:
            good = kind in self.words and (x == '' or x in self.words[kind])
        return [] if good else ['%s: %s is %r, and should be %s' % (where, name, x, kind)]

    def silent(self):
        every = [('/'.join(b.values()), f) for b, f in self.lines] + list(self.objects.items())
        return sorted('%s: %s' % (where, k) for where, fields in every for k in fields if (where, k) not in self.spoken)
