/*
 * T1: one backward pass (uses, homes), one forward pass (emission). See t1.c.
 *
 * A value is in one place: a constant, a temporary register, a guest register's home (an alias, as
 * long as the guest register is not overwritten), or a scratch slot of env.
 */
#ifndef HOST_X86_64_T1_H
#define HOST_X86_64_T1_H

#include <string.h>

#include "host/x86_64/ctx.h"

enum loc {
    L_NONE,
    L_CONST,
    L_TEMP,
    L_GUEST,
    L_SLOT,
    L_MEM /* t1.mem: not loaded yet */,
    L_SUM /* t1.sum: not added yet */
};

struct val {
    uint8_t loc;  /* enum loc */
    uint8_t reg;  /* L_TEMP: host register; L_GUEST: guest register; L_SLOT: number */
    uint8_t zx;   /* bits of the container that may not be zero: 8, 16, 32, 64 */
    uint8_t home; /* guest register + 1 it is set to in this instruction with nothing in between */
    ir_ref next;  /* L_GUEST: next alias */
    ir_ref fuse;  /* value op: its flags op; flags op: its value op */
};

#define NSLOTS 6
#define MAX_LINKS 128
#define MAX_SITES 512

/*
 * Where a call of a memory stub returns to, and the guest instruction it was made for. Read when
 * the access fails.
 */
struct t1_site {
    uint16_t at; /* from the start of the block's hot or cold code */
    uint16_t pc; /* from the block's pc, and these: */
};
/* What a block's sites take of data: t1_move follow. */
#define T1_SITES_BYTES(n) (((n) * sizeof(struct t1_site) + 7) & ~(size_t)7)
#define SITE_COLD 0x8000
#define SITE_STEP 0x4000 /* misalignment comes before what the page says: interpret */
#define SITE_PC 0x3fff

/*
 * What code has of its own address (t1_move.c): a 64-bit number, or the displacement of an entry of
 * the soft TLB.
 */
struct t1_move {
    uint16_t at;    /* from the start of the block's hot or cold code; MOVE_COLD */
    uint16_t entry; /* number of the entry, or MOVE_NUMBER */
};
#define MOVE_COLD 0x8000
#define MOVE_NUMBER 0xffff
#define MAX_MOVES 256

enum access_kind {
    ACCESS_TABLE,  /* look the page up in the soft TLB */
    ACCESS_CONST,  /* the same, of a constant address */
    ACCESS_BASE,   /* through the line of its base register, for a range around it */
    ACCESS_LEADER, /* the same by the soft TLB: the base is not likely to be where it was */
    ACCESS_MEMBER, /* in the range that an access before it has checked */
    ACCESS_STREAM, /* MEMBER with two registers */
};
struct access {
    uint8_t kind, line;
    uint8_t strip_kind, strip_line; /* in the strip of a loop: t1_loop.c */
    uint8_t scale, size;
    bool write, in_stream;
    uint8_t bit;      /* of its instruction, in ir_hints */
    uint16_t base[2]; /* the address: base values, the second times scale; 0: not known */
    bool group;       /* BASE, LEADER: has members */
    bool stores;      /* BASE, LEADER: some of them do */
    uint16_t span;    /* BASE, LEADER: bytes checked, from lo on */
    int32_t off, lo;  /* from the base value */
};
struct open_group {
    uint16_t base, index; /* 0: none */
    ir_ref leader;
    uint8_t scale;
    bool write;
    int32_t lo, hi;
};
/* What a loop accesses at constant distances from registers that move by constants. */
struct stream {
    uint16_t base[2];
    uint8_t scale, line;
    bool write;
    int32_t step, lo, hi; /* step: bytes from one iteration to the next */
};
#define MAX_STREAMS 8
#define NO_STEP INT32_MIN

/* t1_plan.c: values by the base they are at a constant distance from (0: none). */
struct plan {
    unsigned nbases;
    uint16_t base[IR_MAX_OPS];
    int32_t off[IR_MAX_OPS];
    uint8_t hint[IR_MAX_OPS]; /* line + 1 that would suit a value as an address */
    uint8_t line[IR_MAX_OPS + 1];
    uint16_t reg_base[MAX_GUEST_REGS];
    int32_t reg_off[MAX_GUEST_REGS];
    struct open_group open[RT_BASES + RT_LEADS];
    unsigned leads; /* groups that were led by the soft TLB */
    bool written[MAX_GUEST_REGS];
    uint8_t
        entry_reg[IR_MAX_OPS + 1]; /* base: guest register + 1 whose value at entry it is, or 0 */
    int32_t step[IR_MAX_OPS + 1];  /* entry bases, on the way back to the block itself */
    bool loop;                     /* there is such a way */
    struct stream stream[MAX_STREAMS];
    unsigned nstreams;
    struct access access[IR_MAX_OPS];
};

struct flag_state {
    ir_ref host;    /* flags value in host flags, or IR_NONE */
    bool cf_in_env; /* ... except CF, which is that of env->flags */
    ir_ref env;     /* flags value in env->flags; IR_NONE: those at entry */
    ir_ref arch;    /* last setflags */
};

struct t1 {
    struct ir_host_ctx *c;
    const struct ir_block *b;
    struct enc hot, cold;
    uint8_t *base[2]; /* where the block's hot and cold code begin */
    unsigned i;       /* current op */
    bool fail;        /* op not lowered, or out of temporaries */
    uint64_t pc;      /* of the current instruction */
    unsigned insn;    /* op index of its `insn` */
    ir_ref temp_val[NTEMPS];
    struct {
        ir_ref base; /* in a home */
        int32_t disp;
    } sum[IR_MAX_OPS];          /* values with L_SUM */
    struct x_rm mem;            /* the value with L_MEM: */
    unsigned mem_until;         /* the op that uses it */
    uint16_t mem_lock;          /* the registers of its address */
    bool temp_busy[NTEMPS + 1]; /* taken without a value; one more is quicker to clear */
    uint16_t lock;              /* host registers that must stay */
    ir_ref slot_val[NSLOTS];
    unsigned nslots; /* in use */
    struct flag_state fl;
    ir_ref alias[MAX_GUEST_REGS]; /* first value living in that guest register */
    bool vec_ready;               /* guest vectors are known to be live */
    bool skip_next;               /* the next op was emitted together with this one */
    bool aligned;                 /* the access being emitted must be aligned */
    bool low_bits;                /* its address' low bits are looked at, in temps[0] */
    uint8_t knows[NTEMPS];        /* what a temporary, free or not, holds a copy of: KNOWS_ */
    uint8_t note[2], note_reg[2]; /* the access being emitted: what registers know if they stay */
    bool flags_seen;              /* the flags at entry were needed */
    enum ir_form form;
    bool warm;    /* form WARM or LOOP */
    bool planned; /* and with accesses, or a loop */
    struct t1_site site[MAX_SITES];
    unsigned nsites;
    struct t1_move move[MAX_MOVES];
    unsigned nmoves;
    bool stays;            /* something depends on the block's address that is not in `move` */
    struct ir_link *links; /* in data */
    unsigned nlinks;
    struct ir_hints hints;
    uint8_t *strip_top; /* while the strip of a loop is emitted: where it begins */
    struct val v[IR_MAX_OPS + 1];
    ir_ref last[IR_TABLE];             /* by value: op that uses it last; 0: none */
    uint64_t home[MAX_GUEST_REGS + 1]; /* by guest register + 1, see home_of(); [0]: 0 */
    uint64_t homes_from;
    struct plan plan;
};

/* A constant whose value is only known as long as the block stays where it is. */
static inline bool t1_moves(const struct t1 *t, ir_ref v)
{
    return v != IR_NONE && t->b->moves && t->b->op[v].op == IR_const &&
           t->b->op[v].aux == IR_CONST_PC;
}

/* The number that is loaded if it is a constant. */
static inline bool t1_number(const struct t1 *t, ir_ref v, uint64_t *k)
{
    if (v == IR_NONE || t->b->op[v].op != IR_const) {
        return false;
    }
    *k = t->b->op[v].k;
    return true;
}

/* The same for constants that code may depend on. */
static inline bool t1_const(const struct t1 *t, ir_ref v, uint64_t *k)
{
    return !t1_moves(t, v) && t1_number(t, v, k);
}

/* Not used after the current op. */
static inline bool t1_dies(const struct t1 *t, ir_ref v)
{
    return t->last[v] <= t->i;
}

static inline void t1_unlock(struct t1 *t)
{
    t->lock = t->i < t->mem_until ? t->mem_lock : 0;
    memset(t->temp_busy, 0, sizeof(t->temp_busy));
}

/* Number of a temporary register, or -1. */
static inline int t1_temp_index(unsigned reg)
{
    for (int i = 0; i < NTEMPS; i++) {
        if (temp_regs[i] == reg) {
            return i;
        }
    }
    return -1;
}

/* t1_regs.c: places */
unsigned t1_temp(struct t1 *);           /* a free temporary, locked; sets fail when none */
bool t1_take(struct t1 *, unsigned reg); /* frees that temporary for other use, locks it */
bool t1_imm(const struct t1 *, ir_ref, enum ir_type w, int32_t *imm); /* usable as immediate */
struct x_rm t1_rm(struct t1 *, ir_ref); /* register or memory; constants are loaded */
unsigned t1_reg(struct t1 *, ir_ref);   /* in a register, locked */
struct x_rm t1_rm_byte(struct t1 *, ir_ref);
unsigned t1_dest(struct t1 *, ir_ref reuse, ir_ref avoid1, ir_ref avoid2);
unsigned t1_home(const struct t1 *); /* home the result may be written to, or X_NONE */
bool t1_steal(struct t1 *, ir_ref v, unsigned *reg);      /* temporary of a value that dies here */
void t1_bind(struct t1 *, unsigned reg, unsigned zx);     /* result of op i is in this register */
void t1_bind_value(struct t1 *, ir_ref v, unsigned temp); /* any value, in a temporary */
bool t1_alias_of(struct t1 *, ir_ref v); /* result of op i is that of v, in a guest register */
void t1_release(struct t1 *);            /* after an op: values that are dead */
void t1_copy_to(struct t1 *, enum ir_type w, unsigned reg, ir_ref v);
bool t1_sum(struct t1 *, ir_ref a, int64_t disp); /* op i is a + disp: perhaps nothing to do yet */
/* t1_knows.c: what temporaries hold a copy of, free or not, as long as they are not used for
 * something else. */
#define KNOWS_GUEST                                                                                \
    64 /* + number of a guest register without a home; below: 1 + line, its delta                  \
        */
void t1_know(struct t1 *, unsigned what, unsigned reg);
void t1_note(struct t1 *, unsigned k, unsigned what, unsigned reg); /* k: 0 delta, 1 guest */
void t1_keep(struct t1 *); /* what was noted for the current access, if the op left it there */
void t1_forget(struct t1 *, unsigned what);
unsigned t1_known(struct t1 *, unsigned what); /* a temporary, locked; X_NONE: none has it */
void t1_getreg(struct t1 *, const struct ir_op *);
void t1_setreg(struct t1 *, const struct ir_op *);
void t1_spill_all(struct t1 *);

/* t1_flags.c */
void t1_clobber(struct t1 *, bool used_here); /* host flags are about to be lost */
void t1_save(struct t1 *, bool used_here);    /* stores them if needed later; host flags stay */
bool t1_flags_host(struct t1 *, ir_ref f);    /* brings them into host flags */
bool t1_cc(struct t1 *, ir_ref f, enum ir_cc *cc);       /* makes *cc testable; may change it */
void t1_flags_env(struct t1 *);                          /* flags needed from here on are stored */
bool t1_at_exit(struct t1 *, bool *store);               /* what an exit here must do about flags */
void t1_store_flags(struct enc *, bool merge_cf);        /* uses rax and r11 freely */
ir_ref t1_wanted_flags(const struct t1 *, ir_ref value); /* fused flags op that is used, or NONE */
void t1_set_host(struct t1 *, ir_ref f);
void t1_flags_op(struct t1 *, const struct ir_op *);
void t1_flagbits(struct t1 *, const struct ir_op *);

/* t1_int.c, t1_mem.c, t1_ctl.c, t1_vec.c: false: not lowered */
bool t1_int_op(struct t1 *, const struct ir_op *);
bool t1_muldiv_op(struct t1 *, const struct ir_op *);
bool t1_adx_op(struct t1 *, const struct ir_op *);
bool t1_mem_op(struct t1 *, const struct ir_op *);
bool t1_vec_op(struct t1 *, const struct ir_op *);
bool t1_ctl_op(struct t1 *, const struct ir_op *);
/* Translated address of a memory operand: host memory, after the check. */
struct x_rm t1_address(struct t1 *, const struct ir_op *, unsigned size, unsigned access,
                       unsigned temps[2]);
/* A member of a group whose address and delta are in registers: nothing but its site and the
 * access is left. */
bool t1_member(struct t1 *, const struct ir_op *op, struct x_rm *m);
/* Sum of what is constant in an access' address; the rest in *a and *b. */
int64_t t1_fold(const struct t1 *, const struct ir_op *, ir_ref *a, ir_ref *b);
bool t1_keeps_flags(const struct t1 *); /* the current access does not change host flags */
void t1_plan(struct t1 *);
bool t1_plan_strip(struct t1 *);
#define STRIP_AWAYS (MAX_STREAMS + 3)
unsigned t1_strip_head(struct t1 *, uint8_t *away[STRIP_AWAYS]);
struct x_rm t1_in_line(const struct t1 *, unsigned line, size_t field);
void t1_make_live(struct t1 *); /* guest vectors into host registers */
/* t1_move.c */
void t1_mov_pc(struct t1 *, struct enc *, unsigned reg, uint64_t k); /* k moves with the block */
void t1_mov_number(struct t1 *, unsigned reg, enum ir_type w, ir_ref v, uint64_t k);
void t1_moves_number(struct t1 *, const struct enc *); /* the 64-bit number just made */
void t1_moves_entry(struct t1 *, const struct enc *, size_t entry); /* the displacement just made */
/* t1_check.c: blocks that look at their own bytes */
void t1_check(struct t1 *, struct ir_code *);
bool t1_fetch(struct t1 *, const struct ir_op *);
void t1_store_pc(struct t1 *, struct enc *, uint64_t pc); /* may use rax */
void t1_step_exit(struct t1 *);
void t1_site(struct t1 *, bool cold); /* a stub was called just now */
bool t1_goto(struct t1 *, uint8_t *branch, uint64_t pc, bool store_flags);

#endif
