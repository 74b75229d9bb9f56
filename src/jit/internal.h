/* Between the files of the jit accelerator. */
#ifndef JIT_INTERNAL_H
#define JIT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/isa.h"
#include "core/machine.h"
#include "core/mem.h"
#include "core/vcpu.h"
#include "ir/host.h"
#include "ir/interp.h"
#include "jit/codemem.h"
#include "jit/inject.h"
#include "jit/options.h"
#include "jit/pool.h"
#include "jit/stats.h"

#define JIT_FILL_LOG 256
#define JIT_KNOWN 2048
#define JIT_LARGE 2048
#define JIT_ITLB_BITS 8
#define JIT_CHECK_BYTES 64 /* of a block in a checked page */
#define RAM_OFF_NONE (~(ram_off_t)0)

/* A page walk's result and where it leads: behind the soft TLB and the instruction TLB. */
struct jit_walk {
    gva_t page;
    uint64_t gen; /* valid while it is that of its kind */
    uint32_t idx;
    uint8_t perms, page_bits;
    bool global, writable;
    gpa_t gpa;     /* these of the page's first byte */
    ram_off_t off; /* these of RAM and ROM */
    uint8_t *host;
    struct ram *ram; /* NULL: something else */
};
#define JIT_WALK_BITS 12

/* Where an instruction page lies: virtual page to RAM. */
struct jit_itlb {
    gva_t page;
    uint64_t gen;  /* of code mappings: valid while it is in force */
    uint32_t idx;  /* MMU index */
    ram_off_t off; /* of the page */
    const uint8_t *host;
    struct ram *ram;
};

/* What a block of a checked page was made from (checked.c). */
struct jit_check {
    struct ir_self self;
    uint64_t imms; /* bytes that could be read at run time instead */
    uint8_t was[JIT_CHECK_BYTES + 16];
};

/*
 * One translation. Key: pc, mode word, RAM offset of its first byte (and of the second page for an
 * instruction that crosses). Lists: hash chain; blocks of each RAM page it has bytes in.
 */
struct jit_block {
    uint64_t pc;
    uint32_t mode;
    bool plain : 1;      /* in compact code for good: where a warm block's group failed */
    bool dead : 1;       /* freed at the next safepoint */
    bool cut : 1;        /* ends before a breakpoint */
    bool special : 1;    /* is one: run by jit_debug_step() */
    bool moving : 1;     /* homes.c */
    uint8_t trial;       /* runs by tier 0 that are left before it is worth tier 1 */
    uint16_t bytes;      /* of guest code */
    ram_off_t off, off2; /* off2: first byte in the second page, or RAM_OFF_NONE */
    struct jit_block *hash_next;
    struct jit_block *page_next[2]; /* next block of the page of off, of off2 */
    struct jit_block **page_prev[2];
    struct ir_block *ir; /* tier 0 */
    struct ir_code code; /* tier 1: code.entry is NULL when there is none */
    struct ir_link *incoming;
    struct jit_check *check; /* NULL: writes to its pages are noticed */
};

/* stepped.c: an instruction as IR; size 0: not kept yet */
struct jit_stepped {
    uint64_t pc;
    uint32_t mode;
    uint8_t size, bytes[16];
    struct ir_block *ir;
};

/* direct.c: an access to a device that may be made by the stub that misses; site 0: none */
#define JIT_DIRECTS 64
struct jit_direct {
    uint64_t site; /* return address of the stub's call */
    uint8_t bytes; /* of its instruction */
    uint8_t access;
    bool known; /* `from` is; of a store */
    struct ir_stored from;
};

/* The blocks in one arena of code memory, in the order of their addresses. */
struct jit_arena {
    struct jit_block **block;
    struct jit_begins {
        uint32_t hot, cold; /* from the start of code memory */
    } * begins;             /* of each block: looked up without touching blocks */
    unsigned count, room;
};

/* A range of RAM somebody else wrote, for jit_vcpu.mail. */
struct jit_mail {
    ram_off_t off;
    uint64_t len; /* 0: the page of `off` got translations: forget that it is writable */
};

/* Fills of one soft TLB since its last flush, so that a flush costs what was used. */
struct jit_fills {
    uint16_t log[JIT_FILL_LOG];
    unsigned count;
    bool global;                  /* there are fills that are not in the log: of global pages */
    uint8_t large[JIT_LARGE / 8]; /* by hash: 2 MB and 1 GB pieces of address space with fills from
                                     large pages */
};

/* limit.c */
struct jit_limit {
    uint8_t dropped[32 << 10]; /* bits: blocks that were dropped for others */
    bool any;
    unsigned made, back; /* translations in the current arena; those of blocks dropped before */
};

/* A page that lost its last code lately, and the entries filled since that let it be written: such
 * a page soon has code again, and then the whole TLB need not be searched. */
struct jit_young {
    ram_off_t page;
    struct rt_tlb_entry *entry[4];
    unsigned count;
    bool used;
};

/* The return stack of an MMU index while another one is in use: good as long as pcs mean the same.
 */
struct jit_returns {
    uint64_t salt, sp;
};

struct jit_salt {
    uint64_t gen, salt;
    uint32_t mode;
};

/* space.c: a set of pages, perhaps with some more */
#define JIT_MARK_BITS 13
struct jit_marks {
    uint64_t bits[(1u << JIT_MARK_BITS) / 64];
    bool any;
};

/* link.c: links to a block */
#define JIT_LINKS 16
struct jit_links {
    struct ir_link *link[JIT_LINKS];
    unsigned n;
};

/* codepages.c */
struct jit_page_at {
    gva_t page; /* | 1; 0: free */
    ram_off_t off;
};
struct jit_code_pages {
    struct jit_page_at *at;
    unsigned count, room;
    bool unsure; /* not all are here, or P1 */
};

/* An address space, running or not. */
#ifndef JIT_SPACES
#define JIT_SPACES 8
#endif
struct jit_space {
    unsigned asid;
    uint64_t used;               /* when, for replacement */
    uint64_t walk_gen;           /* of its entries in `walks` */
    uint64_t code_gen;           /* of user code mappings */
    struct jit_marks code;       /* user pages code was fetched from under code_gen */
    struct jit_code_pages pages; /* the same, exactly */
};

/* What every start writes comes first, so that it can get its pages at once (JIT_VCPU_FRONT). */
struct jit_vcpu {
    struct vcpu *v;
    struct jit_machine *jm;
    unsigned tier;
    uint32_t mode; /* of the next instruction */
    uint64_t salt_secret;
    struct jit_returns returns[RT_MODES];
    unsigned returns_idx;     /* the one in use */
    struct jit_salt salts[4]; /* latest of each MMU index */
    uint64_t last_gen;        /* no number is used twice */
    uint64_t generation[2];   /* of code mappings in force: kernel's, user's */
    uint64_t walk_gen[2];     /* of entries in `walks` in force: [1] global ones */
    struct jit_space space[JIT_SPACES], *here;
    bool many;       /* spaces besides that of number 0 were in use */
    bool low_global; /* a global page in the lower half of addresses was used */
    bool local_code; /* kernel code in a page that is not global was fetched */
    struct jit_marks kernel_code[2], user_global_code; /* kernel's: lower, upper half */
    struct jit_code_pages kernel_pages;                /* exactly */
    uint64_t look_again; /* when a generation may be looked at for being kept, in ns */
    struct jit_fills fills[RT_MODES];
    struct jit_young young[4];
    unsigned next_young;
    struct jit_block **pages; /* by RAM page */
    uint16_t *heat;           /* by RAM page: checked.c */
    struct jit_homes **homes; /* by RAM page: homes.c */
    uint64_t homes_clock;
    ram_off_t *checked; /* pages that are */
    size_t checked_count, checked_room;
    uint64_t cool_at;   /* when to look at them next, in ms */
    uint64_t *granules; /* by RAM page: which 64 bytes have blocks, or had since there were none */
    struct pool blocks;
    struct jit_block **hash; /* chains: hash.c */
    unsigned hash_bits, hash_count;
    struct jit_block *zombies;
    struct jit_arena *arenas;
    unsigned at_hint[64]; /* jit_block_at() */
    struct codemem mem;
    const struct ir_host *host;
    struct ir_host_ctx *ctx;
    struct jit_stepped stepped[32];
    struct jit_direct direct[JIT_DIRECTS];
    uint64_t direct_site;  /* of the access that left just now, to be known as direct; 0: none */
    unsigned direct_bytes; /* not 0: the store was made; the block is to be left behind it */
    uint8_t cross[32];     /* bytes of an instruction that crosses pages */
    uint8_t snapshot[JIT_CHECK_BYTES]; /* bytes of a checked page while they are translated */
    pthread_mutex_t mail_lock;
    struct jit_mail *mail;
    size_t mail_count, mail_room;
    _Atomic bool map_changed; /* by any thread: flush at the next safepoint */
    bool stop;
    bool breaks, watches;      /* somebody waits for instructions, for memory accesses */
    bool in_code;              /* a block runs: instructions can be done again */
    bool stepping;             /* one instruction by the interpreter: watched accesses go through */
    struct debug_point hit;    /* of the debugger, by this instruction; access 0: none */
    struct lockstep *lockstep; /* NULL: off */
    struct inject inject;
    uint64_t plain_site;    /* of the last exit from a place in generated code */
    uint64_t scatter_since; /* when env->scatter was filled up last, in ms */
    struct jit_probe {
        struct jit_block *b; /* whose accesses are counted in that one; NULL: nobody's */
        unsigned ticks;
    } probe[RT_PROBES];
    struct jit_stats stats;
    uint64_t clock_cost; /* of reading it, ns; 0: not known yet */
    struct ir_buf buf;
    struct jit_itlb itlb[1u << JIT_ITLB_BITS];
    struct jit_walk walks[1u << JIT_WALK_BITS];
    struct jit_limit limit;
    struct jit_known {
        uint64_t pc;
        struct ir_hints hints; /* of the block there */
    } known[JIT_KNOWN];
};
#define JIT_VCPU_FRONT offsetof(struct jit_vcpu, itlb)

struct jit_machine {
    struct machine *m;
    const struct isa *isa;
    struct jit_options opt;
    FILE *perfmap;
    unsigned count;
    struct jit_vcpu *cpu[MACHINE_MAX_VCPUS];
    ram_off_t ram_end;
    /* Exclusive sections and parking (smp.c). */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned running;  /* vCPUs between jit_enter_run and jit_leave_run */
    bool exclusive;    /* somebody is in, or waits for, an exclusive section */
    unsigned entering; /* vCPUs that wait for an exclusive section to begin */
    bool parked;       /* the loop thread wants everybody out */
};

static inline struct jit_vcpu *jit_of(const struct vcpu *v)
{
    return v->accel;
}

static inline bool jit_is_user(unsigned mmu_idx)
{
    return mmu_idx == 1;
}

static inline ram_off_t jit_page_of(ram_off_t off)
{
    return off & ~(ram_off_t)(RT_PAGE_SIZE - 1);
}

/* Bits of ram->code_pages: the byte in which vCPU number `index` has its own, of the page of off.
 */
static inline _Atomic uint8_t *jit_code_byte(const struct ram *ram, ram_off_t off, unsigned index)
{
    return ram->code_pages + ((off - ram->base) >> RT_PAGE_BITS) * ram->code_stride + index / 8;
}

static inline uint8_t jit_code_bit(unsigned index)
{
    return (uint8_t)(1u << index % 8);
}

static inline bool jit_claimed(const struct ram *ram, ram_off_t off, unsigned index)
{
    return atomic_load(jit_code_byte(ram, off, index)) & jit_code_bit(index);
}

/* softmmu.c */
extern const struct rt_mem_ops jit_mem_ops;
/* Instruction page of `pc`'s linear address; NULL: env->fault is filled. */
const struct jit_itlb *jit_fetch(struct jit_vcpu *, gva_t va);

/* tlb.c */
void jit_tlb_init(struct jit_vcpu *);
struct jit_walk *jit_walk_slot(struct jit_vcpu *, unsigned idx, gva_t va);
bool jit_has_code(const struct jit_walk *); /* of any vCPU */
bool jit_others_have_code(const struct jit_vcpu *, const struct ram *, ram_off_t);
void jit_tlb_fill(struct jit_vcpu *, gva_t va, const struct jit_walk *);
void jit_tlb_note_large(struct jit_fills *, gva_t va, unsigned bits); /* a large page is in use */
void jit_tlb_flush_mode(struct jit_vcpu *, unsigned idx);
void jit_tlb_clear(struct rt_env *, unsigned idx, gva_t va); /* one entry */
void jit_tlb_protect(struct jit_vcpu *, ram_off_t page);     /* page has code now: writes go slow */
void jit_tlb_unprotected(struct jit_vcpu *,
                         ram_off_t page); /* page has lost this vCPU's last code */

/* space.c: all but the soft TLB's tables */
uint64_t jit_mix(uint64_t);
void jit_space_init(struct jit_vcpu *);
void jit_forget_frames(struct jit_vcpu *); /* jump targets and return stacks are void */
void jit_space_fetched(struct jit_vcpu *, unsigned idx, gva_t va, ram_off_t page, bool global);
void jit_space_mark(struct jit_vcpu *, unsigned idx, gva_t va, bool global);
void jit_space_free(struct jit_vcpu *);
void jit_code_pages_add(struct jit_code_pages *, gva_t va, ram_off_t page);
void jit_code_pages_clear(struct jit_code_pages *);
void jit_code_pages_free(struct jit_code_pages *);
bool jit_code_pages_hold(struct jit_vcpu *, struct jit_code_pages *, unsigned idx);
bool jit_code_page_moved(struct jit_vcpu *, const struct jit_code_pages *, unsigned idx, gva_t va);
/* Is code at va still fetched from that RAM page? */
bool jit_still_at(struct jit_vcpu *, unsigned idx, gva_t va, ram_off_t page,
                  bool *global); /* code from there */
void jit_space_flush(struct jit_vcpu *, bool global);
void jit_space_switch(struct jit_vcpu *, unsigned asid, bool keep);
void jit_space_flush_page(struct jit_vcpu *, gva_t va);
void jit_space_forget(struct jit_vcpu *, unsigned asid); /* one that does not run */

/* cache.c */
void jit_drop_breaks(struct jit_vcpu *); /* the set of breakpoints changed */
void jit_invalidate(struct jit_vcpu *, ram_off_t off, uint64_t len);
void jit_unlink_all(struct jit_vcpu *, struct jit_block *); /* links to that block */
void jit_link_break(struct jit_vcpu *, struct ir_link *);   /* one; code memory is writable */
void jit_free_zombies(struct jit_vcpu *);
void jit_drop_all(struct jit_vcpu *);
void jit_free_all(struct jit_vcpu *); /* at the end: just the memory */
/* A write by this vCPU, or by a device, to a page with translations. */
void jit_wrote_code(struct jit_vcpu *, struct ram *, ram_off_t off, uint64_t len);
/* May `size` bytes in a page with translations be written as if it had none? */
bool jit_write_misses_code(const struct jit_vcpu *, const struct ram *, ram_off_t off,
                           unsigned size);
void jit_dma_wrote(void *jm, ram_off_t off, uint64_t len);

/* homes.c: code that is mapped elsewhere in the next process */
void jit_homes_made(struct jit_vcpu *, const struct jit_block *); /* a new block */
void jit_homes_drop(struct jit_vcpu *, ram_off_t page);           /* it has no blocks */
void jit_homes_free(struct jit_vcpu *);
/* The page of `off` has no block for pc. True: blocks of another address have moved there, and it
 * may have one now. */
bool jit_homes_move(struct jit_vcpu *, gva_t pc, ram_off_t off);

/* limit.c */
void jit_limit_dropped(struct jit_vcpu *, const struct jit_block *);
void jit_limit_made(struct jit_vcpu *, const struct jit_block *);
void jit_limit_plan(struct jit_vcpu *);

void jit_free_block(struct jit_vcpu *, struct jit_block *);

/* emit.c */
struct jit_block *jit_block_at(struct jit_vcpu *, uint64_t host_addr);
/* hints.c: which way of finding a page suits an access */
const struct ir_hints *jit_hints(const struct jit_vcpu *, uint64_t pc); /* of the block there */
/* The same for code about to be made of it in that form. */
const struct ir_hints *jit_hints_emit(struct jit_vcpu *, struct jit_block *, enum ir_form);
void jit_link(struct jit_vcpu *, struct ir_link *, struct jit_block *to);
void jit_link_early(struct jit_vcpu *, struct jit_block *);
void jit_links_note(const struct jit_block *, struct jit_links *);
void jit_links_move(struct jit_vcpu *, const struct jit_links *, struct jit_block *);
void jit_hints_count(struct jit_vcpu *, struct jit_block *); /* its accesses; drops the block */
void jit_hints_shared(struct jit_vcpu *, struct jit_block *, uint64_t pc);
void jit_hints_move(struct jit_vcpu *, const struct jit_block *, uint64_t by); /* it is about to */
void jit_hints_tick(struct jit_vcpu *); /* every few milliseconds */
void jit_hints_dead(struct jit_vcpu *, const struct jit_block *);
void jit_make_room(struct jit_vcpu *); /* for jit_emit(); may drop blocks */
void jit_emit(struct jit_vcpu *, struct jit_block *, struct ir_block *, enum ir_form);
enum ir_form jit_first_form(const struct jit_vcpu *, uint64_t pc);
bool jit_is_hot(const struct jit_vcpu *, const struct jit_block *);
void jit_unclaim(struct jit_vcpu *, ram_off_t page); /* writes to it need not be noticed */
void jit_kill(struct jit_vcpu *, struct jit_block *);

/* hash.c */
unsigned jit_hash(uint64_t pc, uint32_t mode, ram_off_t off); /* 32 bits */
static inline unsigned jit_buckets(const struct jit_vcpu *jv)
{
    return 1u << jv->hash_bits;
}
/* The first block of the chain in which blocks with such a key are. */
struct jit_block **jit_bucket(const struct jit_vcpu *, uint64_t pc, uint32_t mode, ram_off_t off);
int jit_hash_open(struct jit_vcpu *, struct err *);
void jit_hash_close(struct jit_vcpu *);
void jit_enter_hash(struct jit_vcpu *, struct jit_block *);
void jit_leave_hash(struct jit_vcpu *, struct jit_block *);
void jit_link_pages(struct jit_vcpu *, struct jit_block *);

/* make.c */
struct jit_block *jit_find(struct jit_vcpu *, uint64_t pc);       /* NULL: env->fault is filled */
struct jit_block *jit_find_plain(struct jit_vcpu *, uint64_t pc); /* the same, in compact form */
struct ir_block *jit_lift_one(struct jit_vcpu *, uint64_t pc); /* in jv->buf; or NULL, as above */
void jit_promote(struct jit_vcpu *, struct jit_block *);       /* makes tier 1 code, if it can */

/* stepped.c: as jit_lift_one(), but remembers. */
const struct ir_block *jit_lift_step(struct jit_vcpu *, uint64_t pc);
void jit_stepped_free(struct jit_vcpu *);

/* direct.c */
/* An access to a device at gpa that a stub asks for (env->asked) is made, if it can be: where
 * generated code is to make it once more, or NULL. */
void *jit_direct(struct jit_vcpu *, gpa_t gpa, unsigned size, unsigned access);
/* Generated code was left at env->site for that reason; the one to go by. */
enum rt_exit jit_direct_left(struct jit_vcpu *, uint64_t site, enum rt_exit why);
/* The instruction left at was interpreted: `b`. */
void jit_direct_learn(struct jit_vcpu *, const struct ir_block *b);

/* checked.c */
bool jit_page_checked(const struct jit_vcpu *, ram_off_t off);
void jit_page_changed(struct jit_vcpu *, ram_off_t off); /* new code in a checked page */
void jit_cool(struct jit_vcpu *,
              uint64_t now_ms); /* between blocks: pages that need not be checked any more */
/* A write to a page with translations was slow, or dropped some (`hit`). True: it is checked now,
 * and the running block, if any, is to be left behind its instruction. */
bool jit_heat(struct jit_vcpu *, ram_off_t off, bool hit);
bool jit_same_key(const struct jit_block *, const struct jit_block *);
bool jit_matches(const struct jit_block *); /* its bytes are what they were */
/* The block to come in by where `b` is wanted: the first of its key. */
struct jit_block *jit_head(const struct jit_vcpu *, struct jit_block *b);
void jit_chain(struct jit_vcpu *, const struct jit_block *b); /* the checks of its key */
/* Which immediates of `now`, about to be translated there, have changed before. */
uint64_t jit_live_bytes(const struct jit_vcpu *, uint64_t pc, ram_off_t off, const uint8_t *now,
                        unsigned avail);
/* How often a new translation there is run by tier 0 first. */
unsigned jit_trial(const struct jit_vcpu *, uint64_t pc, ram_off_t off);
/* Makes room for `b`, about to be entered: older ones that it stands for, or too many. */
void jit_drop_versions(struct jit_vcpu *, const struct jit_block *b);

/* smp.c */
void jit_enter_run(struct jit_vcpu *);
void jit_leave_run(struct jit_vcpu *);
void jit_safepoint(struct jit_vcpu *);       /* lets others have their exclusive section */
void jit_exclusive_begin(struct jit_vcpu *); /* returns when no other vCPU runs guest code */
void jit_exclusive_end(struct jit_vcpu *);
void jit_report(struct jit_vcpu *); /* statistics, at the end */
void jit_post_mail(struct jit_vcpu *to, struct jit_mail);
void jit_read_mail(struct jit_vcpu *);
void jit_map_changed(void *jit_machine); /* mem_map_on_change() */
/* Before the first block: memory is what it will be. */
int jit_take_ram(struct machine *m, struct err *err);

/* debug.c */
void jit_debug_enter(struct jit_vcpu *); /* begins to run, */
void jit_debug_leave(struct jit_vcpu *); /* and stops: state for debuggers */
/* The instruction at env->pc with all that debuggers and debug registers want. `held`: interrupts
 * are held off for it. */
void jit_debug_step(struct jit_vcpu *, bool held);
/* How many instructions of `ir` (at linear address va) to take. */
unsigned jit_debug_cut(struct jit_vcpu *, const struct ir_block *ir, gva_t va, struct jit_block *);
/* Whether a page has watched bytes, and an access: false: env->fault says to step. */
bool jit_watched_page(const struct jit_vcpu *, gva_t va, unsigned access);
bool jit_watch(struct jit_vcpu *, gva_t va, unsigned size, unsigned access);
bool jit_has_break(const struct jit_vcpu *, const struct jit_block *);
void jit_watch_late(struct jit_vcpu *); /* accesses that no instruction made by itself */
void jit_debug_changed(struct machine *);

/* run.c */
/* Generated code from there on until it comes back; env->pc is exact then. */
enum rt_exit jit_enter_code(struct jit_vcpu *, const void *entry);
bool jit_step(struct jit_vcpu *);    /* one instruction; false: it faulted (delivered) */
void jit_deliver(struct jit_vcpu *); /* env->fault */
void *jit_thread(void *jv);

#endif
