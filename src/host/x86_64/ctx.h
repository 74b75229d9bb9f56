/*
 * The back end's context of one vCPU: where guest registers live, the stubs, what the host can.
 *
 * Register use in generated code: r15 = env + RT_BIAS, rsp = return stack, rax r11 r14 =
 * temporaries, the rest hold guest registers.
 *
 * A guest call is a host call, a guest return a host return with the guest's address in r11; behind
 * the call a compare tells whether it was this call's return. A return stack holds nothing else but
 * what stubs push. There is one per MMU index; whoever changes what a pc means (jump_salt) switches
 * or empties them (jit/tlb.c). At their base lies the address of ret_empty; past their end is a
 * page without access, where the signal handler begins anew.
 */
#ifndef HOST_X86_64_CTX_H
#define HOST_X86_64_CTX_H

#include "host/x86_64/enc.h"
#include "ir/host.h"

#define X_ENV X_R15
#define MAX_GUEST_REGS 128
#define NTEMPS 3

extern const uint8_t temp_regs[NTEMPS];

/* Parameter of a miss of a line, pushed before the call: the line, then from these bits on the
 * access' distance from the lowest address of its range, the range's span, the access' size. */
#define PARAM_LINE 31
#define PARAM_K_SHIFT 5
#define PARAM_K 255
#define PARAM_READ (1 << 13) /* the group stores, the access itself does not */
#define PARAM_SPAN_SHIFT 14
#define PARAM_SPAN 1023
#define PARAM_SIZE_SHIFT 24
#define PARAM_GROUP (1 << 30) /* the range is that of a group */
#define PARAM_QUIET INT32_MIN /* misses are not counted: of streams, and by the soft TLB */

#define PROBE_SIZES 6 /* accesses of 1, 2, 4 ... 32 bytes */
#define THUNK_BYTES 32
#define THUNKS 2048

struct t1;

struct ir_host_ctx {
    const struct ir_guest *guest;
    const uint8_t *code_lo, *code_hi;
    ptrdiff_t to_rx;
    uint8_t *data;               /* links are counted from here, in units of 8 bytes */
    uint8_t pin[MAX_GUEST_REGS]; /* host register of a guest register, or X_NONE */
    uint8_t pinned[16];          /* guest registers that have one */
    unsigned npinned;
    uint32_t kept_at[16]; /* where in env a host register is while a memory stub is in C */
    bool avx, adx, bmi2, lzcnt, tzcnt, popcnt;
    /* stubs, writable view: calls and jumps are relative, both views keep the same distances */
    uint8_t *exit[RT_EXIT_LINK + 1]; /* leave with that reason */
    uint8_t *exit_stored; /* leave with the reason in r11d, guest registers are in env already */
    uint8_t *exit_pinned; /* leave with the reason in r11d */
    uint8_t *exit_link;   /* called by a direct exit; behind the call, 4 bytes: its link */
    uint8_t *exit_at;     /* called; behind the call, 8 bytes: pc to leave with RT_EXIT_JUMP at */
    uint8_t *exit_poll;   /* leave with RT_EXIT_POLL at pc r11 */
    uint8_t *miss[RT_MODES][2][NTEMPS][NTEMPS];      /* TLB miss: [MMU index][write][t][u] */
    uint8_t *base_miss[RT_MODES][2][NTEMPS][NTEMPS]; /* of a look-up through a line */
    /* the line of a stream: address in r11, r14 lost; CF: the soft TLB does not have the range */
    uint8_t *line_fill[RT_MODES][2];
    uint8_t *base_slow[NTEMPS][NTEMPS], *base_alone[NTEMPS][NTEMPS];
    uint8_t *base_group[NTEMPS][NTEMPS];
    uint8_t *guard_exit;              /* executable view: the host faulted on base_guard */
    uint8_t *miss_at[NTEMPS][NTEMPS]; /* the same, the address being whole in t */
    uint8_t *probe[RT_MODES][2][PROBE_SIZES][NTEMPS][NTEMPS]; /* address to host address in t */
    uint8_t
        *helper;    /* call a helper: function in r11, arguments in scratch[0..2], next pc in [3] */
    uint8_t *go_pc; /* registers are in env: go on at env->pc */
    uint8_t *jump_empty; /* r11: pc ^ salt: no block known there */
    uint8_t *ret_miss;   /* r11: pc, which is not where the call was */
    uint8_t *ret_empty;  /* the same, of a return without a call */
    uint8_t *load_vec, *save_vec;
    /* executable view */
    enum rt_exit (*enter_code)(struct rt_env *, const void *entry);
    void (*spill[16])(struct rt_env *); /* a guest vector to env->bounce; keeps everything else */
    uint64_t (*vec_call)(struct rt_env *, const void *thunk, void *mem, uint64_t in);
    /* one-instruction thunks, direct mapped by a hash of their bytes */
    uint8_t *thunks;
    struct t1 *t1;
    uint8_t *guard; /* a page without access: where invalid lines lead */
    /* return stacks, RETURN_BYTES each; the first page of each is a guard; then the signal stack */
    uint8_t *returns;
};

#define GUARD_BYTES (2 * RT_PAGE_SIZE)
#define RETURN_BYTES (64u << 10)
#define ALT_STACK_BYTES (64u << 10)
#define STACKS_BYTES (RT_MODES * RETURN_BYTES + ALT_STACK_BYTES)

/* A field of env as an operand. */
static inline struct x_rm x_env(size_t off)
{
    return x_m(X_ENV, (int32_t)off - RT_BIAS);
}

static inline struct x_rm x_guest(const struct ir_host_ctx *c, unsigned g)
{
    return x_env(c->guest->regs[g].off);
}

void ctx_map_registers(struct ir_host_ctx *);
void stubs_emit(struct ir_host_ctx *, struct enc *);
/* stubs.c, for the others */
void stub_store_pins(struct ir_host_ctx *, struct enc *); /* guest registers to env, */
void stub_load_pins(struct ir_host_ctx *, struct enc *);  /* and back */
void stub_save_vec_if_live(struct ir_host_ctx *, struct enc *);
void stub_to_c_stack(struct enc *);
void stub_from_c_stack(struct enc *);
/* stubs_mem.c */
void stubs_emit_memory(struct ir_host_ctx *, struct enc *);
/* t (address) to t ^ tag of its TLB entry, whose offset u becomes; then `ja` is a miss. */
void tlb_check(const struct ir_host_ctx *, struct enc *, unsigned t, unsigned u, struct x_rm tag,
               unsigned size);
/* cross.c: an access over two pages, `what` being size << 2 | enum rt_access, the store that is
 * about to be done being at `ret` with base register regs & 15 or index regs >> 8. True: generated
 * code is to access env->bounce. */
bool cross_access(struct rt_env *, uint64_t va, unsigned what, const uint8_t *ret, unsigned regs);
bool cross_stored(const struct rt_env *, unsigned size, struct ir_stored *); /* ir_host.stored */
void jump_cached(struct ir_host_ctx *, struct enc *, uint8_t **poll);

struct ir_code;
bool t1_emit(struct ir_host_ctx *, const struct ir_block *, struct ir_codebuf *, struct ir_code *);
struct t1 *t1_new(void);
void link_make(struct ir_host_ctx *, struct ir_link *, const struct ir_code *to, uint32_t epoch);
void link_break(struct ir_host_ctx *, struct ir_link *);
void block_chain(struct ir_host_ctx *, const struct ir_code *, const struct ir_code *to);
void block_kill(struct ir_host_ctx *, const struct ir_code *);
void block_move(struct ir_host_ctx *, struct ir_code *, uint64_t by);
enum rt_exit site_settle(const struct ir_host_ctx *, struct rt_env *, const struct ir_code *,
                         enum rt_exit why);
bool vec_run(struct rt_env *, const struct ir_vec *, void *mem, uint64_t in, uint64_t *result);

struct strbuf;
void host_disas(struct strbuf *, const uint8_t *code, size_t n, uint64_t at);

/* Instructions that may fault in the host carry their continuation in a NOP before them. */
#define MARK_BYTES 7
void mark_emit(struct enc *, const uint8_t *continuation);
int signals_attach(struct ir_host_ctx *, struct err *);
void signals_detach(struct ir_host_ctx *);

/* caps.c */
bool caps_has(const char *name);
void caps_probe(struct ir_host_ctx *); /* what the translator asks for */
void caps_identify(char vendor[13], char brand[49], uint32_t *signature);
/* x87.c */
void x87_get(struct rt_env *, uint8_t fx[512]);
void x87_set(struct rt_env *, const uint8_t fx[512]);

#endif
