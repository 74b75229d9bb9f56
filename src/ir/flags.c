/*
 * Values of the arithmetic flags, kind by kind (Intel SDM Vol. 1 3.4.3.1 and the instruction
 * pages of Vol. 2). Where the manual leaves a flag undefined the comment at the kind says what
 * we give.
 */
#include "base/bits.h"
#include "ir/interp.h"

struct fl {
    unsigned bits;
    uint64_t mask, sign, a, b, d;
    uint32_t old;
};

static uint32_t result_flags(const struct fl *f, uint64_t r)
{
    r &= f->mask;
    uint32_t out = r == 0 ? FLAG_ZF : 0;
    out |= r & f->sign ? FLAG_SF : 0;
    out |= __builtin_parity((unsigned)(r & 0xff)) ? 0 : FLAG_PF;
    return out;
}

static uint32_t add_flags(const struct fl *f, unsigned carry)
{
    uint64_t r = (f->a + f->b + carry) & f->mask;
    uint32_t out = result_flags(f, r);
    out |= (r < f->a || (carry && r == f->a)) ? FLAG_CF : 0;
    out |= (f->a ^ f->b ^ r) & 0x10 ? FLAG_AF : 0;
    out |= (f->a ^ r) & (f->b ^ r) & f->sign ? FLAG_OF : 0;
    return out;
}

static uint32_t sub_flags(const struct fl *f, unsigned borrow)
{
    uint64_t r = (f->a - f->b - borrow) & f->mask;
    uint32_t out = result_flags(f, r);
    out |= (f->a < f->b || (borrow && f->a == f->b)) ? FLAG_CF : 0;
    out |= (f->a ^ f->b ^ r) & 0x10 ? FLAG_AF : 0;
    out |= (f->a ^ f->b) & (f->a ^ r) & f->sign ? FLAG_OF : 0;
    return out;
}

static uint32_t inc_flags(const struct fl *f, bool dec)
{
    struct fl g = *f;
    g.b = 1;
    return ((dec ? sub_flags(&g, 0) : add_flags(&g, 0)) & ~(uint32_t)FLAG_CF) | (f->old & FLAG_CF);
}

/* Shifts: AF clear; OF by the count-1 rule for any count. */
static uint32_t shl_flags(const struct fl *f)
{
    if (f->b == 0) {
        return f->old;
    }
    uint64_t r = f->b >= f->bits ? 0 : f->a << f->b & f->mask;
    bool cf = f->b <= f->bits && (f->a >> (f->bits - f->b) & 1);
    bool top = r & f->sign;
    return result_flags(f, r) | (cf ? FLAG_CF : 0) | (top != cf ? FLAG_OF : 0);
}

static uint32_t shr_flags(const struct fl *f)
{
    if (f->b == 0) {
        return f->old;
    }
    uint64_t r = f->b >= f->bits ? 0 : f->a >> f->b;
    bool cf = f->b <= f->bits && (f->a >> (f->b - 1) & 1);
    bool of = (r ^ r << 1) & f->sign;
    return result_flags(f, r) | (cf ? FLAG_CF : 0) | (of ? FLAG_OF : 0);
}

static uint32_t sar_flags(const struct fl *f)
{
    if (f->b == 0) {
        return f->old;
    }
    int64_t a = sign_extend(f->a, f->bits);
    unsigned n = f->b > 63 ? 63 : (unsigned)f->b;
    bool cf = a >> (n - 1) & 1;
    return result_flags(f, (uint64_t)(a >> n)) | (cf ? FLAG_CF : 0);
}

static uint32_t with_cf_of(const struct fl *f, bool cf, bool of)
{
    return (f->old & ~(uint32_t)(FLAG_CF | FLAG_OF)) | (cf ? FLAG_CF : 0) | (of ? FLAG_OF : 0);
}

static uint32_t rol_flags(const struct fl *f)
{
    if (f->b == 0) {
        return f->old;
    }
    unsigned n = f->b % f->bits;
    uint64_t r = n ? (f->a << n | f->a >> (f->bits - n)) & f->mask : f->a;
    return with_cf_of(f, r & 1, !!(r & f->sign) != (r & 1));
}

static uint32_t ror_flags(const struct fl *f)
{
    if (f->b == 0) {
        return f->old;
    }
    unsigned n = f->b % f->bits;
    uint64_t r = n ? (f->a >> n | f->a << (f->bits - n)) & f->mask : f->a;
    return with_cf_of(f, !!(r & f->sign), !!((r ^ r << 1) & f->sign));
}

/* One bit at a time: counts are at most 63 and rotates through carry are rare. */
static uint32_t rc_flags(const struct fl *f, bool left)
{
    unsigned n = f->b % (f->bits + 1);
    uint64_t r = f->a;
    bool cf = f->old & FLAG_CF;
    for (unsigned i = 0; i < n; i++) {
        bool out = left ? !!(r & f->sign) : r & 1;
        r = left ? (r << 1 | cf) & f->mask : r >> 1 | (cf ? f->sign : 0);
        cf = out;
    }
    if (f->b == 0) {
        return f->old;
    }
    bool of = left ? !!(r & f->sign) != cf : !!((r ^ r << 1) & f->sign);
    return with_cf_of(f, cf, of);
}

/* Double shifts: AF clear; OF set when the sign changed. */
static uint32_t shiftd_flags(const struct fl *f, bool left)
{
    unsigned n = (unsigned)f->d;
    if (n == 0) {
        return f->old;
    }
    uint64_t r, cf;
    if (n >= f->bits) { /* 16-bit operands with counts 16..31: as if a:b:a rotated */
        unsigned m = n - f->bits;
        r = left ? f->b << m | (m ? f->a >> (f->bits - m) : 0)
                 : f->b >> m | (m ? f->a << (f->bits - m) : 0);
        cf = left ? (m ? f->b >> (f->bits - m) : f->a) & 1
                  : (m ? f->b >> (m - 1) : f->a >> (f->bits - 1)) & 1;
    } else {
        r = left ? f->a << n | f->b >> (f->bits - n) : f->a >> n | f->b << (f->bits - n);
        cf = left ? f->a >> (f->bits - n) & 1 : f->a >> (n - 1) & 1;
    }
    bool of = (r ^ f->a) & f->sign;
    return result_flags(f, r) | (cf ? FLAG_CF : 0) | (of ? FLAG_OF : 0);
}

/* SF, PF of the low half as current Intel and AMD processors give them, ZF clear on Intel: we
 * give ZF of nothing (clear). */
static uint32_t mul_flags(const struct fl *f, bool is_signed)
{
    bool over;
    uint64_t low = (f->a * f->b) & f->mask;
    if (is_signed) {
        __int128 p = (__int128)sign_extend(f->a, f->bits) * sign_extend(f->b, f->bits);
        over = p != sign_extend(low, f->bits);
    } else {
        unsigned __int128 p = (unsigned __int128)f->a * f->b;
        over = p != low;
    }
    uint32_t out = result_flags(f, low) & ~(uint32_t)FLAG_ZF;
    return out | (over ? FLAG_CF | FLAG_OF : 0);
}

static uint32_t replace(uint32_t old, uint32_t bit, bool set)
{
    return (old & ~bit) | (set ? bit : 0);
}

static bool carry_out(const struct fl *f, bool in)
{
    uint64_t sum = (f->a + f->b + in) & f->mask;
    return sum < f->a || (in && sum == f->a);
}

uint32_t ir_flags_value(enum ir_flags_kind kind, enum ir_type type, uint64_t a, uint64_t b,
                        uint32_t old, uint64_t d)
{
    unsigned bits = ir_type_bits(type);
    uint64_t m = mask_low(bits);
    struct fl f = {
        .bits = bits, .mask = m, .sign = BIT(bits - 1), .a = a & m, .b = b & m, .d = d, .old = old};
    switch (kind) {
    case IR_FL_ADD: return add_flags(&f, 0);
    case IR_FL_ADC: return add_flags(&f, old & FLAG_CF);
    case IR_FL_SUB: return sub_flags(&f, 0);
    case IR_FL_SBB: return sub_flags(&f, old & FLAG_CF);
    case IR_FL_LOGIC: return result_flags(&f, a);
    case IR_FL_AND: return result_flags(&f, a & b);
    case IR_FL_INC: return inc_flags(&f, false);
    case IR_FL_DEC: return inc_flags(&f, true);
    case IR_FL_SHL: return shl_flags(&f);
    case IR_FL_SHR: return shr_flags(&f);
    case IR_FL_SAR: return sar_flags(&f);
    case IR_FL_ROL: return rol_flags(&f);
    case IR_FL_ROR: return ror_flags(&f);
    case IR_FL_RCL: return rc_flags(&f, true);
    case IR_FL_RCR: return rc_flags(&f, false);
    case IR_FL_SHLD: return shiftd_flags(&f, true);
    case IR_FL_SHRD: return shiftd_flags(&f, false);
    case IR_FL_MULU: return mul_flags(&f, false);
    case IR_FL_MULS: return mul_flags(&f, true);
    case IR_FL_ZERO: return replace(old, FLAG_ZF, f.a == 0);
    case IR_FL_ZCNT: return (f.a == 0 ? FLAG_CF : 0) | (f.b == 0 ? FLAG_ZF : 0);
    case IR_FL_POPCNT: return f.a == 0 ? FLAG_ZF : 0;
    case IR_FL_BT: return replace(old, FLAG_CF, f.a >> (b & (bits - 1)) & 1);
    case IR_FL_CARRY: return replace(old, FLAG_CF, a & 0xff);
    case IR_FL_ZF: return replace(old, FLAG_ZF, a & 0xff);
    case IR_FL_IMAGE: return (uint32_t)a & FLAG_ALL;
    case IR_FL_LOGICC: return result_flags(&f, a) | (b & 0xff ? FLAG_CF : 0);
    case IR_FL_ADCX: return replace(old, FLAG_CF, carry_out(&f, old & FLAG_CF));
    case IR_FL_ADOX: return replace(old, FLAG_OF, carry_out(&f, old & FLAG_OF));
    case IR_FLAGS_KINDS: break;
    }
    return old;
}

bool ir_cc_holds(enum ir_cc cc, uint32_t f)
{
    bool less = !!(f & FLAG_SF) != !!(f & FLAG_OF);
    bool r = false;
    switch (cc >> 1) {
    case 0: r = f & FLAG_OF; break;
    case 1: r = f & FLAG_CF; break;
    case 2: r = f & FLAG_ZF; break;
    case 3: r = f & (FLAG_CF | FLAG_ZF); break;
    case 4: r = f & FLAG_SF; break;
    case 5: r = f & FLAG_PF; break;
    case 6: r = less; break;
    case 7: r = less || (f & FLAG_ZF); break;
    }
    return r != (cc & 1);
}
