/* Kernels of calls and indirect jumps: bytecode interpreters, function pointers, recursion. */
#include "kernels.h"

enum op {
    OP_HALT,
    OP_LOADI,
    OP_ADD,
    OP_SUB,
    OP_XOR,
    OP_SHIFT,
    OP_MUL,
    OP_AND,
    OP_JNZ,
    OP_DEC,
    OP_SKIPODD,
    OP_MOVE
};

/* Each instruction is four bytes: op, destination, two sources. r0 counts down; 250 rounds of it.
 */
static const uint8_t program[] = {
    OP_LOADI, 0, 250, 0, OP_LOADI, 6, 13, 0, /* before the loop */
    OP_ADD,   1, 1,   0, OP_XOR,   2, 1,  3, OP_SHIFT, 3, 2, 7, OP_SKIPODD, 3, 0, 0, /* 2..5 */
    OP_SUB,   4, 3,   1, OP_MUL,   5, 4,  6, OP_AND,   7, 5, 2, OP_SKIPODD, 5, 0, 0, /* 6..9 */
    OP_ADD,   1, 7,   5, OP_MOVE,  3, 1,  0, OP_DEC,   0, 0, 0, OP_JNZ,     0, 2, 0, /* 10..13 */
    OP_HALT,  0, 0,   0};

#define BODY_LOADI r[p[1]] = p[2]
#define BODY_ADD r[p[1]] = r[p[2]] + r[p[3]]
#define BODY_SUB r[p[1]] = r[p[2]] - r[p[3]]
#define BODY_XOR r[p[1]] = r[p[2]] ^ r[p[3]]
#define BODY_SHIFT r[p[1]] = r[p[2]] >> p[3] ^ r[p[2]] << 3
#define BODY_MUL r[p[1]] = r[p[2]] * r[p[3]] + 1
#define BODY_AND r[p[1]] = r[p[2]] & r[p[3]]
#define BODY_DEC r[p[1]]--
#define BODY_MOVE r[p[1]] = r[p[2]]
#define BODY_SKIPODD p += r[p[1]] & 1 ? 4 : 0
#define BODY_JNZ p = r[p[1]] ? program + 4 * p[2] - 4 : p

static NOINLINE void run_switch(uint64_t *r)
{
    for (const uint8_t *p = program;; p += 4) {
        switch (p[0]) {
        case OP_HALT: return;
        case OP_LOADI: BODY_LOADI; break;
        case OP_ADD: BODY_ADD; break;
        case OP_SUB: BODY_SUB; break;
        case OP_XOR: BODY_XOR; break;
        case OP_SHIFT: BODY_SHIFT; break;
        case OP_MUL: BODY_MUL; break;
        case OP_AND: BODY_AND; break;
        case OP_DEC: BODY_DEC; break;
        case OP_MOVE: BODY_MOVE; break;
        case OP_SKIPODD: BODY_SKIPODD; break;
        case OP_JNZ: BODY_JNZ; break;
        }
    }
}

static NOINLINE void run_goto(uint64_t *r)
{
    static const void *const label[] = {
        [OP_HALT] = &&halt, [OP_LOADI] = &&loadi, [OP_ADD] = &&add,         [OP_SUB] = &&sub,
        [OP_XOR] = &&xor,   [OP_SHIFT] = &&shift, [OP_MUL] = &&mul,         [OP_AND] = &&and,
        [OP_JNZ] = &&jnz,   [OP_DEC] = &&dec,     [OP_SKIPODD] = &&skipodd, [OP_MOVE] = &&move};
    const uint8_t *p = program;
#define NEXT                                                                                       \
    p += 4;                                                                                        \
    goto *label[p[0]]
    goto *label[p[0]];
loadi:
    BODY_LOADI;
    NEXT;
add:
    BODY_ADD;
    NEXT;
sub:
    BODY_SUB;
    NEXT;
    xor : BODY_XOR;
    NEXT;
shift:
    BODY_SHIFT;
    NEXT;
mul:
    BODY_MUL;
    NEXT;
    and : BODY_AND;
    NEXT;
dec:
    BODY_DEC;
    NEXT;
move:
    BODY_MOVE;
    NEXT;
skipodd:
    BODY_SKIPODD;
    NEXT;
jnz:
    BODY_JNZ;
    NEXT;
halt:
    return;
#undef NEXT
}

static uint64_t interpret(void (*run)(uint64_t *), unsigned long n)
{
    uint64_t r[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    while (n--) {
        run(r);
    }
    return mix(r[1], r[3] + r[5]);
}

static uint64_t interp_switch(unsigned long n)
{
    return interpret(run_switch, n);
}

static uint64_t interp_goto(unsigned long n)
{
    return interpret(run_goto, n);
}

#define SMALL(number)                                                                              \
    static NOINLINE uint32_t small_##number(uint32_t x)                                            \
    {                                                                                              \
        return x * (2 * number + 3) + number;                                                      \
    }
/* clang-format takes this list for declarations and what follows for their end. */
/* clang-format off */
SMALL(0)
SMALL(1)
SMALL(2)
SMALL(3)
SMALL(4)
SMALL(5) SMALL(6) SMALL(7) SMALL(8) SMALL(9) SMALL(10) SMALL(11) SMALL(12) SMALL(13) SMALL(14)
SMALL(15)

static uint64_t indirect(unsigned long n)
{
    static uint32_t (*const table[])(uint32_t) = {
        small_0, small_1, small_2,  small_3,  small_4,  small_5,  small_6,  small_7,
        small_8, small_9, small_10, small_11, small_12, small_13, small_14, small_15};
    uint32_t seed = 17, x = 1;
    while (n--) {
        x = table[next_random(&seed) >> 28](x);
    }
    return x;
}

static NOINLINE unsigned fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t fibonacci(unsigned long n)
{
    return fib((unsigned)n);
}

struct shape;
struct shape_type {
    uint32_t (*area)(const struct shape *);
    void (*grow)(struct shape *, uint32_t);
};
struct shape {
    const struct shape_type *type;
    uint32_t a, b;
};

static uint32_t square_area(const struct shape *s)
{
    return s->a * s->a;
}
static uint32_t box_area(const struct shape *s)
{
    return s->a * s->b;
}
static uint32_t triangle_area(const struct shape *s)
{
    return s->a * s->b / 2;
}
static void grow_a(struct shape *s, uint32_t by)
{
    s->a += by;
}
static void grow_b(struct shape *s, uint32_t by)
{
    s->b += by ^ s->a;
}

static uint64_t virtual_calls(unsigned long n)
{
    static const struct shape_type types[] = {
        {square_area, grow_a}, {box_area, grow_b}, {triangle_area, grow_a}, {box_area, grow_a}};
    static struct shape shapes[64];
    uint32_t seed = 23, sum = 0;
    for (int i = 0; i < 64; i++) {
        shapes[i] = (struct shape){&types[next_random(&seed) >> 30], (uint32_t)i, (uint32_t)i + 5};
    }
    while (n--) {
        for (int i = 0; i < 64; i++) {
            struct shape *s = &shapes[i];
            sum += s->type->area(s);
            s->type->grow(s, sum & 7);
        }
    }
    return sum;
}

const struct kernel call_kernels[] = {
    {"interp-switch", "calls", interp_switch, 20000}, {"interp-goto", "calls", interp_goto, 20000},
    {"indirect", "calls", indirect, 20000000},        {"fib", "calls", fibonacci, 38},
    {"virtual", "calls", virtual_calls, 400000},      {0}};
