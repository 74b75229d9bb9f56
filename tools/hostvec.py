"""Groups the vector and x87 forms of the x86 table into hostvec ids (see src/ir/hostvec.h)."""
from x86table import FIXED

MODE_KIND = {'V': 'VEC', 'W': 'VEC', 'U': 'VEC', 'H': 'VEC', 'P': 'MMX', 'Q': 'MMX', 'N': 'MMX',
             'G': 'INT', 'E': 'INT', 'R': 'INT', 'B': 'INT'}
FIELD = {'V': 'reg', 'P': 'reg', 'G': 'reg', 'H': 'vvvv', 'W': 'rm', 'U': 'rm', 'Q': 'rm', 'N': 'rm',
         'E': 'rm', 'R': 'rm', 'M': 'rm', 'STi': 'rm'}
SIZES = {'b': (1, 1), 'w': (2, 2), 'd': (4, 4), 'q': (8, 8), 'dq': (16, 16), 'x': (16, 32),
         'xh': (8, 16), 'xq': (4, 8), 'xo': (2, 4), 't': (10, 10), 'env': (28, 28), 'st': (108, 108),
         'y': (0, 0)}


def wanted(form):
    if form.name in ('ldmxcsr', 'stmxcsr'):
        return False
    return form.is_vec() or form.is_mmx() or form.is_x87()


def pp_of(form):
    return {1: 0, 2: 1, 4: 2, 8: 3}.get(form.prefix, 0)


def key_of(form):
    return (form.name, form.map, form.opcode, pp_of(form), form.reg,
            form.rm if form.mod == 1 else None)


class HostVec:
    def __init__(self, form):
        self.forms = []
        self.ident = ''
        self.name = form.name
        self.lead = form

    def kind(self, field):
        for f in self.forms:
            for o in f.operands:
                if o == 'STi' and field == 'rm':
                    return 'ST'
                if o not in FIXED and FIELD.get(o[0]) == field and o[0] in MODE_KIND:
                    return MODE_KIND[o[0]]
        return 'NONE'

    def has(self, note):
        return any(note in f.notes for f in self.forms)

    def any_operand(self, test):
        return any(test(o) for f in self.forms for o in f.operands)

    def access(self, vex):
        bits = set()
        if self.lead.is_x87():
            return '0'  # the x87 stack is no register file of the IR
        for f in [f for f in self.forms if f.vex == vex]:
            merges = 'rw' in f.notes or (not vex and any(n.startswith('vex3') for n in f.notes))
            for i, o in enumerate(f.operands):
                field = 'rm' if o == 'STi' else None if o in FIXED else FIELD.get(o[0])
                if not field:
                    continue
                written = i == 0 and 'nw' not in f.notes
                if 'vsib' in f.notes and i == 2:
                    written = True  # the mask is cleared
                if written:
                    bits.add(f'HVA_{field.upper()}_W')
                if not written or merges or 'vsib' in f.notes:
                    bits.add(f'HVA_{field.upper()}_R')
        return ' | '.join(sorted(bits)) or '0'

    def mem_operand(self):
        """(stored, loaded, [size by L]) of the memory form, or None."""
        found = None
        for f in self.forms:
            if f.mod == 1:
                continue
            for i, o in enumerate(f.operands):
                if o in FIXED or o[0] not in 'MWQE':
                    continue
                stored = 'st' in f.notes if f.is_x87() else i == 0 and 'nw' not in f.notes
                found = found or (stored, not stored, list(SIZES[o[1:]]))
                if f.l is not None:
                    found[2][f.l] = SIZES[o[1:]][f.l]
        return found

    def int_operand(self):
        """'IN', 'OUT' or None."""
        for f in self.forms:
            for i, o in enumerate(f.operands):
                if o not in FIXED and MODE_KIND.get(o[0]) == 'INT':
                    return 'OUT' if i == 0 else 'IN'
        return 'OUT' if self.name == 'fnstsw_ax' else None

    def vex_forms(self, l):
        return [f for f in self.forms if f.vex and f.l in (None, l)]

    def flags(self):
        legacy = [f for f in self.forms if not f.vex]
        mem = self.mem_operand()
        integer = self.int_operand()
        named = [
            ('LEGACY', legacy), ('VEX128', self.vex_forms(0)), ('VEX256', self.vex_forms(1)),
            ('VVVV', any(f.vex and f.uses_vvvv() for f in self.forms)),
            ('IMM8', self.any_operand(lambda o: o == 'Ib')),
            ('IS4', self.any_operand(lambda o: o == 'Lx')),
            ('VSIB', self.has('vsib')), ('ALIGN', any(f.aligned() for f in legacy)),
            ('VALIGN', any(f.vex and f.aligned() for f in self.forms)), ('FP', self.has('fp')),
            ('FLAGS', self.has('fl')), ('FLAGS_IN', self.has('rfl')), ('INT_IN', integer == 'IN'),
            ('INT_OUT', integer == 'OUT'), ('MMX', any(f.is_mmx() for f in self.forms)),
            ('X87', self.lead.is_x87()), ('XMM0_R', self.any_operand(lambda o: o == 'XMM0')),
            ('XMM0_W', self.has('x0w')), ('RDI', self.has('rdi')), ('AXDX', self.has('axdx')),
            ('CX_W', self.has('cxw')), ('ALL', self.name in ('vzeroupper', 'vzeroall')),
            ('LOAD', mem and mem[1]), ('STORE', mem and mem[0]),
            ('RM_REG', any(f.mod in (None, 1) and f.has_modrm() for f in self.forms)),
            ('RM_MEM', mem)]
        return ' | '.join('HVF_' + n for n, on in named if on)

    def features(self):
        legacy = [f for f in self.forms if not f.vex]
        return [fs[0].feature if fs else '' for fs in (legacy, self.vex_forms(0), self.vex_forms(1))]

    def w(self):
        if self.any_operand(lambda o: o in ('Ey', 'Gy')):
            return 'HV_W_OPERAND'
        ws = {f.w for f in self.forms if f.vex and f.w is not None}
        return str(ws.pop()) if ws else '0'


def first_is_rm(hv):
    ops = hv.lead.operands
    return bool(ops) and ops[0] not in FIXED and ops[0][0] in 'WMUERQ'


def name_all(all_):
    by_name = {}
    for hv in all_:
        by_name.setdefault(hv.name, []).append(hv)
    for name, group in by_name.items():
        for hv in group:
            base = name.upper()
            if len(group) > 1:
                if hv.any_operand(lambda o: o == 'Ib') and not all(
                        g.any_operand(lambda o: o == 'Ib') for g in group):
                    base += '_I'
                elif first_is_rm(hv) and not hv.lead.is_x87():
                    base += '_ST'
                if hv.lead.is_mmx():
                    base += '_MMX'
            hv.ident = 'HV_' + base


def collect(forms):
    """The ids in table order, and for every form the index of its id (or None); 0 is HV_NONE."""
    ids = {}
    by_name = {}
    index = []
    for form in forms:
        if not wanted(form):
            index.append(None)
            continue
        key = key_of(form)
        if 'alias' in form.notes:
            key = ('alias', form.name)
            index.append(key)
            continue
        if key not in ids:
            ids[key] = HostVec(form)
            by_name.setdefault(form.name, key)
        ids[key].forms.append(form)
        index.append(key)
    order = {key: i + 1 for i, key in enumerate(ids)}
    # An alias is encoded as the register form of the row it repeats.
    primary = {}
    for key, hv in ids.items():
        if hv.lead.is_x87() and hv.lead.mod == 1:
            primary.setdefault(hv.name, order[key])
    result = [None if k is None else primary[k[1]] if k[0] == 'alias' else order[k] for k in index]
    all_ = list(ids.values())
    name_all(all_)
    names = [hv.ident for hv in all_]
    doubles = {n for n in names if names.count(n) > 1}
    if doubles:
        raise ValueError(f'hostvec names not unique: {sorted(doubles)}')
    return all_, result
