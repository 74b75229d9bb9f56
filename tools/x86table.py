"""Reads src/isa/x86/insn.decode and turns its rows into forms (see the head of that file)."""
import copy
import re

CONDS = 'o no b ae e ne be a s ns p np l ge le g'.split()
MAPS = {'1': 0, '0f': 1, '0f38': 2, '0f3a': 3}
PREFIX = {'np': 1, '66': 2, 'f3': 4, 'f2': 8, 'nf': 3, 'n3': 11}
ANY_PREFIX = 15
FIXED = ['AL', 'CL', 'AX', 'DX', 'rAX', 'eAX', 'ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'ST0', 'STi',
         'XMM0', '1']
MODES = 'ABCDEGHIJLMNOPQRSUVWXYZ'
SIZES = ['', 'b', 'bs', 'w', 'd', 'q', 'dq', 'x', 'xh', 'xq', 'xo', 'v', 'z', 'y', 'r', 'ad', 'a',
         'p', 's', 'env', 'st', 't']
# Features that a VEX form keeps; the others become AVX.
KEPT = {'aes', 'pclmulqdq', 'gfni'}
WIDE = {'aes': 'vaes', 'pclmulqdq': 'vpclmulqdq'}


class TableError(Exception):
    pass


class Form:
    """One encoding: what selects it, and what it is. None means "does not select"."""

    def __init__(self):
        self.line = self.map = self.opcode = 0
        self.opcode_span = 1  # +r rows answer to eight opcodes
        self.vex = False
        self.prefix = ANY_PREFIX
        self.mod = self.reg = self.rm = self.mode = self.osize = self.asize = None
        self.rexb = self.l = self.w = None
        self.mod_any = False
        self.name = self.feature = ''
        self.operands = []
        self.notes = set()

    def addressing(self):
        return [o[0] for o in self.operands if o not in FIXED]

    def has_modrm(self):
        return (self.mod_any or self.mod is not None or self.reg is not None
                or self.rm is not None or any(c in 'CDEGMNPQRSUVW' for c in self.addressing()))

    def is_x87(self):
        return self.map == 0 and (0xd8 <= self.opcode <= 0xdf or self.opcode == 0x9b)

    def is_mmx(self):
        return any(c in 'PQN' for c in self.addressing()) or self.name == 'emms'

    def is_vec(self):
        return (any(c in 'VWUHL' for c in self.addressing())
                or self.name in ('vzeroupper', 'vzeroall'))

    def uses_vvvv(self):
        return any(c in 'HB' for c in self.addressing())

    def aligned(self):
        if 'unal' in self.notes:
            return False
        if self.vex:
            return 'al' in self.notes
        if 'al' in self.notes:
            return True
        return self.is_vec() and any(
            o[0] in 'WM' and o[1:] in ('x', 'dq') for o in self.operands if o not in FIXED)

    def flags(self):
        named = [('LOCK', 'lock' in self.notes), ('D64', 'd64' in self.notes),
                 ('F64', 'f64' in self.notes), ('VEX', self.vex), ('MODRM', self.has_modrm()),
                 ('MODANY', self.mod_any), ('VSIB', 'vsib' in self.notes),
                 ('ALIGN', self.aligned()), ('VEC', self.is_vec()), ('MMX', self.is_mmx()),
                 ('X87', self.is_x87()), ('VVVV', self.uses_vvvv()),
                 ('ALIAS', 'alias' in self.notes)]
        return [n for n, on in named if on]


def parse_select(form, token):
    if token in PREFIX:
        form.prefix = PREFIX[token]
    elif token in ('i64', 'o64'):
        form.mode = 0 if token == 'i64' else 1
    elif re.fullmatch(r'[oa]s[248]', token):
        value = '248'.index(token[2])
        if token[0] == 'o':
            form.osize = value
        else:
            form.asize = value
    elif token in ('b0', 'b1'):
        form.rexb = int(token[1])
    elif token in ('l0', 'l1'):
        form.l = int(token[1])
    elif token in ('w0', 'w1'):
        form.w = int(token[1])
    elif token == 'vex':
        form.vex = True
    elif token == 'mod=*':
        form.mod_any = True
    elif token in ('mod=m', 'mod=r'):
        form.mod = 'mr'.index(token[4])
    elif re.fullmatch(r'/[0-7]', token):
        form.reg = int(token[1])
    elif re.fullmatch(r'rm=[0-7]', token):
        form.rm = int(token[3])
    elif re.fullmatch(r'modrm=[c-f][0-9a-f]', token):
        value = int(token[6:], 16)
        form.mod, form.reg, form.rm = 1, value >> 3 & 7, value & 7
    else:
        raise TableError(f'unknown select "{token}"')


def check_operand(code):
    if code in FIXED:
        return
    if code[0] not in MODES or code[1:] not in SIZES:
        raise TableError(f'unknown operand code "{code}"')


def vex_forms(form):
    """The VEX forms that a legacy row with a vex2/vex3 note stands for."""
    note = next((n for n in form.notes if re.fullmatch(r'vex[23][isn]?', n)), None)
    if not note:
        return []
    base = copy.copy(form)
    base.vex = True
    base.feature = form.feature if form.feature in KEPT else 'avx'
    if 'vw0' in form.notes or 'vw1' in form.notes:
        base.w = int('vw1' in form.notes)
    kind = note[4:]
    if kind == 'n':
        base.l = 0
    if kind != 'i':
        return [base]
    wide = copy.copy(base)
    base.l, wide.l = 0, 1
    wide.feature = WIDE.get(form.feature, 'avx2')
    return [base, wide]


def parse_row(line, number):
    cols = re.split(r'\s{2,}', line.strip())
    if len(cols) != 7:
        raise TableError(f'{len(cols)} columns instead of 7')
    map_, opc, selects, name, operands, feature, notes = cols
    form = Form()
    form.line = number
    form.map = MAPS[map_]
    form.opcode = int(opc[:2], 16)
    form.name = name
    form.operands = [] if operands == '-' else operands.split(',')
    form.feature = '' if feature == '-' else feature
    form.notes = set() if notes == '-' else set(notes.split())
    for token in [] if selects == '-' else selects.split():
        parse_select(form, token)
    for code in form.operands:
        check_operand(code)
    if not form.mod_any:
        if 'M' in form.addressing():
            form.mod = 0
        elif any(c in 'NRU' for c in form.addressing()):
            form.mod = 1
    if opc[2:] == '+cc':
        forms = []
        for i, cond in enumerate(CONDS):
            one = copy.copy(form)
            one.opcode += i
            one.name = name.replace('@', cond)
            forms.append(one)
        return forms
    if opc[2:] == '+r':
        form.opcode_span = 8
    elif len(opc) != 2:
        raise TableError(f'bad opcode "{opc}"')
    extra = vex_forms(form)
    if any(n.startswith('vex3') for n in form.notes):
        form.operands = [o for o in form.operands if o in FIXED or o[0] != 'H']
    return [form] + extra


def read(path):
    forms = []
    with open(path, encoding='ascii') as f:
        for number, line in enumerate(f, 1):
            if not line.strip() or line.startswith('#'):
                continue
            try:
                forms += parse_row(line, number)
            except (TableError, KeyError, ValueError) as e:
                raise TableError(f'{path}:{number}: {e}') from e
    return forms


# What a decision node looks at, in the order in which it is asked. "values" is how many
# answers there are; "answers" tells for which of them a form can be meant.
def _one(value, count):
    return range(count) if value is None else [value]


SELECTORS = [
    ('MODE64', 2, lambda f: _one(f.mode, 2)),
    ('REXB', 2, lambda f: _one(f.rexb, 2)),
    ('PREFIX', 4, lambda f: [i for i in range(4) if f.prefix >> i & 1]),
    ('MOD', 2, lambda f: _one(f.mod, 2)),
    ('REG', 8, lambda f: _one(f.reg, 8)),
    ('RM', 8, lambda f: _one(f.rm, 8)),
    ('L', 2, lambda f: _one(f.l, 2)),
    ('W', 2, lambda f: _one(f.w, 2)),
    ('OSIZE', 3, lambda f: _one(f.osize, 3)),
    ('ASIZE', 3, lambda f: _one(f.asize, 3)),
]
LEAF = 0x8000


class Tree:
    """Decision nodes in one array: kind, then one entry per answer. 0 is "invalid"; an entry
    with LEAF set is a form number, otherwise the place of the next node."""

    def __init__(self, forms):
        self.words = [('-', 0)]
        self.known = {}
        self.roots = [[0] * 256 for _ in range(7)]
        cells = {}
        for i, form in enumerate(forms):
            for op in range(form.opcode, form.opcode + form.opcode_span):
                cells.setdefault((form.map + (3 if form.vex else 0), op), []).append((i, form))
        for (root, op), members in cells.items():
            self.roots[root][op] = self.build(members, 0)

    def build(self, members, first):
        if not members:
            return 0
        for k in range(first, len(SELECTORS)):
            kind, count, answers = SELECTORS[k]
            if all(len(answers(f)) == count for _, f in members):
                continue
            entries = tuple(self.build([m for m in members if v in answers(m[1])], k + 1)
                            for v in range(count))
            key = (kind, entries)
            if key not in self.known:
                self.known[key] = len(self.words)
                self.words.append((kind, None))
                self.words += [('', e) for e in entries]
            return self.known[key]
        if len(members) > 1:
            lines = ', '.join(str(f.line) for _, f in members)
            raise TableError(f'nothing tells rows {lines} apart')
        return LEAF | members[0][0]
