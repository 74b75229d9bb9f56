/*
 * What generated code, the interpreter and C share at run time: the head of every guest CPU's
 * state, the soft TLB's tables, why generated code returned. Layout matters: generated code
 * addresses these fields from a pointer to the middle of the first 256 bytes (RT_BIAS).
 *
 * Threads: everything here belongs to the vCPU's own thread; only `exit` is set by others
 * (atomically), and cleared by the owner.
 */
#ifndef IR_RT_H
#define IR_RT_H

#include "base/types.h"

#define RT_MODES 3 /* MMU indexes: 0 kernel, 1 user, 2 kernel that may touch user pages */
#define RT_TLB_BITS 12
#define RT_TLB_SIZE (1u << RT_TLB_BITS)
/*
 * Tag of an invalid entry (engine rule 1): its index bits are not those of the slot it stands in,
 * so that no address at all, canonical or not, can hit it. That is zero everywhere but in entry 0,
 * so a table of zeros needs its entry 0 mended only. Use rt_tlb_invalid().
 */
#define RT_TLB_INVALID (1ull << 63 | 1ull << 12)
#define RT_PAGE_BITS 12
#define RT_PAGE_SIZE 4096u
#define RT_BIAS 128
#define RT_ASKED_GROUP 1

/* One page the guest may read (write) at tag_r (tag_w): host address of the page's first byte. */
struct rt_tlb_entry {
    uint64_t tag_r, tag_w;
    uint64_t host;
    uint64_t ram_off; /* of the page: for code tracking */
};

/* Indirect jumps: key is pc ^ salt. Cleared entries are zero; see rt_jump_mend(). */
struct rt_jump_entry {
    uint64_t key;
    void *code;
};
#define RT_JUMP_BITS 14
/* What a guest base register pointed to last: add delta to a guest address whose page is the tag.
 * Invalid: RT_BASE_INVALID, and delta leads the one page that matches it to one without access. */
struct rt_base {
    uint64_t tag_r, tag_w, delta;
};
/* The compact code to go on with where a group's range crosses a page: by its stub's return
 * address. */
struct rt_probe {
    uint32_t runs, misses;
};
struct rt_plain {
    uint64_t site;
    const void *code;
};
#define RT_PLAINS 2048
#define RT_BASES 19
#define RT_LEADS 13 /* further lines, of no register: delta alone is looked at, inside a block */
#define RT_BASE_INVALID (1ull << 63) /* engine rule 1 */
#define RT_SCATTER 1024              /* counters of look-ups through lines that missed */
#define RT_PROBES 8                  /* blocks whose look-ups through lines are counted */
#define RT_HEAT 16384
#define RT_HEAT_COLD 255 /* runs of a new block until its heat is 0 */

enum rt_fault_kind {
    RT_FAULT_NONE,
    RT_FAULT_GUEST /* vector etc. set by the ISA */,
    RT_FAULT_DIVIDE,
    RT_FAULT_ALIGN /* vector operand not aligned */,
    RT_FAULT_ILLEGAL /* no such instruction here */,
    RT_FAULT_STEP /* no fault: run this instruction alone (watched memory) */
};
struct rt_fault {
    uint32_t kind;   /* enum rt_fault_kind */
    uint32_t vector; /* ISA's own numbers */
    uint32_t error;
    bool has_error;
    bool soft; /* INT n, INT3, INTO: a software interrupt */
    uint64_t addr;
};

/* Why a block, or a chain of blocks, came back. */
enum rt_exit {
    RT_EXIT_JUMP,    /* env->pc is the next instruction; look it up */
    RT_EXIT_FAULT,   /* env->fault; env->pc is the faulting instruction */
    RT_EXIT_POLL,    /* the exit word was set; env->pc is next */
    RT_EXIT_STOP,    /* a helper said IR_HELPER_EXIT */
    RT_EXIT_PLAIN,   /* a group of accesses is not on one page: go on in compact code */
    RT_EXIT_SCATTER, /* an access led to other pages often: as STEP, and see ir_hints */
    RT_EXIT_SHARED,  /* a group that stores was on a page that can only be read, often: the same */
    RT_EXIT_STEP,    /* generated code cannot do the instruction at env->pc: interpret one */
    RT_EXIT_LINK,    /* like JUMP, and a direct link may be made at env->link_site */
};

struct vcpu;
struct ir_host_ctx;
struct rt_env {
    /* first 256 bytes: short displacements */
    uint64_t reg[16];      /* general registers of the guest */
    uint64_t pc;           /* valid outside generated code only */
    _Atomic uint32_t exit; /* not 0: leave generated code at the next poll */
    uint16_t flags;        /* arithmetic flags: RT_FLAGS_PACK */
    uint8_t fp_live;       /* guest vectors and MXCSR are in host registers */
    bool hold_irq;         /* no interrupt before one more instruction is done */
    uint64_t jump_salt;    /* changes with everything that a virtual pc's meaning hangs on */
    uint64_t epoch;        /* code mapping generation, for links across pages */
    uint64_t host_sp;      /* C stack while generated code runs on its own */
    uint64_t link_site;
    uint64_t scratch[6]; /* spills of generated code, dead between instructions */
    uint64_t strip;      /* a loop that runs without checks does so until a register is this */
    uint64_t ret_sp;     /* return stack pointer while generated code does not run */
    /* beyond short reach */
    struct vcpu *vcpu;
    const struct rt_mem_ops *mem;
    struct rt_fault fault;
    uint32_t mmu_idx;
    uint32_t step_insns; /* interpreter: stop after this many instructions; 0 = no limit */
    bool code_changed;   /* interpreter: a store hit code, stop behind its instruction */
    uint64_t insns;      /* guest instructions interpreted */
    uint64_t ret_sp_base[RT_MODES]; /* of empty return stacks; set by the back end's attach() */
    struct ir_host_ctx *host;       /* back end's context of this vCPU */
    uint64_t host_save[4];          /* its stubs' */
    uint64_t site;       /* return address of the access that failed: ir_host.settle(); 0: none */
    uint8_t bounce[64];  /* what a load over two pages reads */
    uint64_t base_guard; /* delta of an invalid line; set by the back end's attach() */
    void *jump_empty;    /* code of cleared entries of `jump`; set by the back end's attach() */
    /* While memory stubs are in resolve(): the access' return address; RT_ASKED_GROUP: of a group;
     * 0: it is not a stub that asks. What registers its address may be in, as in cross_access(). */
    uint64_t asked;
    uint32_t asked_regs;
    uint64_t to_line[5]; /* what follows begins at a cache line, as env does */
    struct rt_base base[RT_MODES][RT_BASES + RT_LEADS];
    uint16_t scatter[RT_SCATTER];     /* by return address; at 0 the access better use the table */
    struct rt_plain plain[RT_PLAINS]; /* slot: site >> 3, modulo */
    struct rt_probe probe[RT_PROBES][64]; /* by instruction: ir_hints */
    uint8_t heat[RT_HEAT]; /* by block, several may share one: runs left in its first form */
    struct rt_jump_entry jump[1u << RT_JUMP_BITS];
    struct rt_tlb_entry tlb[RT_MODES][RT_TLB_SIZE];
};

_Static_assert(offsetof(struct rt_env, base) % 64 == 0 && offsetof(struct rt_env, tlb) % 64 == 0,
               "entries lie in one cache line each");
/* Packed as the host's LAHF (high byte: SF ZF - AF - PF - CF) and SETO (low byte: OF) leave it. */
static inline uint16_t rt_flags_pack(uint32_t f)
{
    return (uint16_t)((((f & 0xd5) | 2) << 8) | (f >> 11 & 1));
}

static inline uint32_t rt_flags_unpack(uint16_t p)
{
    return (p >> 8 & 0xd5) | (uint32_t)(p & 1) << 11;
}

static inline uint64_t rt_tlb_invalid(unsigned slot)
{
    return slot == 0 ? RT_TLB_INVALID : 0;
}

/* Where generated code looks for the block at `pc`: a hit has key == pc ^ env->jump_salt. */
static inline struct rt_jump_entry *rt_jump_slot(struct rt_env *env, uint64_t pc)
{
    return &env->jump[(pc ^ pc >> RT_JUMP_BITS) & ((1u << RT_JUMP_BITS) - 1)];
}

static inline void rt_base_clear(struct rt_env *env, unsigned idx)
{
    for (unsigned i = 0; i < RT_BASES; i++) {
        env->base[idx][i] = (struct rt_base){RT_BASE_INVALID, RT_BASE_INVALID, env->base_guard};
    }
}

/* A key of zero comes up for pc == salt only. So of all cleared entries just that of this pc needs
 * code, after the salt changed or entries were cleared. */
static inline void rt_jump_mend(struct rt_env *env)
{
    struct rt_jump_entry *e = rt_jump_slot(env, env->jump_salt);
    if (env->jump_empty && !e->code) {
        e->code = env->jump_empty;
    }
}

static inline struct rt_tlb_entry *rt_tlb_slot(struct rt_env *env, unsigned idx, uint64_t va)
{
    return &env->tlb[idx][va >> RT_PAGE_BITS & (RT_TLB_SIZE - 1)];
}

/*
 * Slow paths, given by the accelerator. They return false with env->fault filled when the guest
 * faults; nothing was changed then. Addresses may cross a page; sizes are 1 to 64.
 *
 * resolve: checks the whole access (both pages). When all of it lies in one plain RAM page,
 * *host is its host address and the caller makes the access; for a load over two such pages it may
 * be that of a copy, good until the next call. Otherwise *host is NULL and the caller uses
 * slow_read and slow_write, which cannot fault after that.
 *
 * lock_begin .. lock_end: no other vCPU runs between them (a locked access that crosses a page).
 *
 * vec: runs one hostvec op on the guest's vector file; mem is its memory operand's bytes.
 */
enum rt_access { RT_READ = 1, RT_WRITE = 2, RT_EXEC = 4 };
struct ir_vec;
struct rt_mem_ops {
    bool (*resolve)(struct rt_env *, uint64_t va, unsigned size, unsigned access, void **host);
    bool (*slow_read)(struct rt_env *, uint64_t va, unsigned size, void *val);
    bool (*slow_write)(struct rt_env *, uint64_t va, unsigned size, const void *val);
    void (*lock_begin)(struct rt_env *);
    void (*lock_end)(struct rt_env *);
    bool (*vec)(struct rt_env *, const struct ir_vec *, void *mem, uint64_t int_in,
                uint64_t *result);
    /* The guest's x87 registers, which live with the host's while a vCPU runs: FXSAVE layout. */
    void (*fpu_get)(struct rt_env *, uint8_t fx[512]);
    void (*fpu_set)(struct rt_env *, const uint8_t fx[512]);
};

#endif
