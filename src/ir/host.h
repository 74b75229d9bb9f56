/*
 * What a host back end offers: one const table of functions. The block cache and the run loop know
 * a host only through this.
 *
 * Threads: a context belongs to one vCPU; translations are private to it. Everything here is
 * called on that vCPU's thread, except open and close.
 */
#ifndef IR_HOST_H
#define IR_HOST_H

#include "ir/ir.h"
#include "ir/rt.h"

struct err;
struct ir_host_ctx;

/* Room for one block (or the stubs): hot code, cold code (writable view), and what is not code:
 * links and tables. All grow upwards; all of a block is used again at the same time. */
struct ir_codebuf {
    uint8_t *hot, *hot_end, *cold, *cold_end;
    uint8_t *data, *data_end; /* multiples of 8 */
    uint8_t *data_base;       /* of all data of the context: the same in each codebuf */
    ptrdiff_t to_rx;          /* add to a writable address to get the executable one */
};

/*
 * A direct exit of a block: lives in the block's data, so as long as the block. Unlinked it
 * leaves with RT_EXIT_LINK, env->pc the target and env->link_site the address of this record.
 */
struct ir_link {
    uint64_t pc;                  /* target */
    void *from, *to;              /* for the block cache: owning block, block linked to */
    struct ir_link *next, **prev; /* for the block cache: incoming links of `to` */
    bool cross_page;              /* target is in another page than the block: guarded by epoch */
    bool poll;                    /* backward: the exit word is looked at on the way */
    bool has_flags;               /* flags are stored on the way unless the target ignores them */
    /* For the back end: where, from the start of code memory on, */
    uint32_t branch; /* rel32 of the jump in hot code */
    uint32_t stub;   /* the exit stub */
    /* and from the stub on. */
    uint8_t bare;  /* behind the storing of flags */
    uint8_t slot;  /* rel32 of the jump that leads to the target */
    uint8_t epoch; /* imm32 of the guard, or 0 */
};

/* How a block is emitted: small and quickly at first; fast once it has run a few hundred times. */
enum ir_form {
    IR_FORM_FIRST, /* compact. Counts its runs down; leaves with RT_EXIT_JUMP at its own pc at 0 */
    IR_FORM_PLAIN, /* compact, does not count */
    IR_FORM_WARM,  /* fast; each run is one pass through the block */
    IR_FORM_LOOP,  /* the same, but a block that is a loop goes round by itself */
};

/* One translated block. */
struct ir_code {
    enum ir_form form : 8; /* FIRST only if another form would be better */
    bool flags_dead;       /* the block does not look at the flags it is entered with */
    bool can_move;         /* ir_host.move() */
    uint8_t stop_op;       /* the op that was not lowered: see ninsns */
    uint32_t hot_size, cold_size;
    uint16_t heat;   /* FIRST: index of its counter in env->heat */
    uint16_t ninsns; /* guest instructions lowered; then RT_EXIT_STEP if that is not all */
    uint16_t nlinks, nsites, nmoves;
    uint64_t pc;
    const void *entry;     /* executable view */
    uint8_t *hot, *cold;   /* writable view */
    struct ir_link *links; /* in data */
    const void *sites;     /* in data: what settle() needs; behind it what move() does */
    uint8_t *other;        /* block with a check: rel32 of the jump for when it fails */
};

/* Room that emit() needs at least. A block that does not fit in it is cut (ends with a jump). */
#define IR_HOT_ROOM (64u << 10)
#define IR_COLD_ROOM (64u << 10)
#define IR_DATA_ROOM (16u << 10)

struct ir_host_config {
    const struct ir_guest *guest;
    const uint8_t *code_lo, *code_hi; /* executable view of all code memory of this context */
};

/* A constant, or in env at `off`. */
struct ir_stored {
    bool constant;
    uint32_t off;
    uint64_t value;
};

struct ir_host {
    const char *name;
    /* Emits the stubs into *buf and moves its ends past them. NULL and *err on failure. */
    struct ir_host_ctx *(*open)(const struct ir_host_config *, struct ir_codebuf *buf,
                                struct err *);
    void (*close)(struct ir_host_ctx *);
    /* On the vCPU's thread, once: signal stack, env->host, return stacks (env->ret_sp_base).
     * Install the handlers first. */
    int (*attach)(struct ir_host_ctx *, struct rt_env *, struct err *);
    void (*detach)(struct ir_host_ctx *);
    /* False: no room in buf, nothing emitted. `buf` is moved past what was used. out->form and
     * out->heat say what is wanted and become what was made. */
    bool (*emit)(struct ir_host_ctx *, const struct ir_block *, struct ir_codebuf *buf,
                 struct ir_code *out);
    /* Makes the link go to `to` (while the low half of env->epoch is `epoch`, if cross_page). */
    void (*link)(struct ir_host_ctx *, struct ir_link *, const struct ir_code *to, uint32_t epoch);
    void (*unlink)(struct ir_host_ctx *, struct ir_link *);
    /* Where to go when the check at the entry of `code` fails: to `to`, which has the same key;
     * NULL: leave with RT_EXIT_JUMP. */
    void (*chain)(struct ir_host_ctx *, const struct ir_code *code, const struct ir_code *to);
    /* The block's bytes are now mapped `by` bytes further up, a multiple of the page size: its
     * code, and the targets of its links, become what they would be there. Links are not looked at
     * otherwise. */
    void (*move)(struct ir_host_ctx *, struct ir_code *, uint64_t by);
    /* Makes every entry of a block that dies leave with RT_EXIT_JUMP at its pc. */
    void (*kill)(struct ir_host_ctx *, const struct ir_code *);
    enum rt_exit (*enter)(struct ir_host_ctx *, struct rt_env *, const void *entry);
    /* After an exit with env->site set, `code` being the one the site lies in (hot or cold): sets
     * env->pc to the instruction's, clears env->site and gives the reason to go by. */
    enum rt_exit (*settle)(const struct ir_host_ctx *, struct rt_env *, const struct ir_code *code,
                           enum rt_exit why);
    /* In resolve(), for the memory stub that asks (env->asked): where the integer store there finds
     * what it stores. That holds for all later times. False: it is something else. */
    bool (*stored)(const struct rt_env *, unsigned size, struct ir_stored *);
    /*
     * Runs one vector or FPU instruction on the guest vectors in env (not live). `mem` is the host
     * address of the memory operand, aligned if vec->aligned. False: the host cannot do it.
     * *result: integer, or flags (FLAG_ bits).
     */
    bool (*vec_run)(struct rt_env *, const struct ir_vec *, void *mem, uint64_t int_in,
                    uint64_t *result);
    /* Can it run vector ops of this set ("avx2", "fma" ... as guests name them)? */
    bool (*has)(const char *set);
    /* Its names, for guests that want to look like it: vendor, brand, family and model. */
    void (*identify)(char vendor[13], char brand[49], uint32_t *signature);
    /* Host code as text, for logs. */
    void (*disas)(struct strbuf *, const uint8_t *code, size_t n, uint64_t at);
    /* rt_mem_ops.fpu_get, fpu_set. */
    void (*fpu_get)(struct rt_env *, uint8_t fx[512]);
    void (*fpu_set)(struct rt_env *, const uint8_t fx[512]);
};

/* The host this program was built for, or NULL: only the interpreter then. */
const struct ir_host *ir_host_native(void);
/* Handlers for faults inside generated code (process-wide, idempotent). */
int ir_host_signals(struct err *);

#endif
