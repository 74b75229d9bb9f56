/*
 * A guest instruction set: everything the rest of the tree may ask of it. Nothing else knows an
 * ISA by name. All functions run on the vCPU's own thread.
 */
#ifndef CORE_ISA_H
#define CORE_ISA_H

#include <stdio.h>

#include "ir/ir.h"
#include "ir/rt.h"

struct vcpu;
struct err;
struct strbuf;

/* What translate() is given. */
struct tr_ctx {
    uint64_t pc; /* first instruction, as the guest counts (x86: RIP, not linear) */
    uint32_t mode;
    const uint8_t *code; /* bytes from pc on */
    unsigned avail;      /* of them in the first page */
    unsigned avail2;     /* more from the next page; 0 when it was not fetched */
    unsigned max_insns;
    bool after_store;     /* end behind an instruction that stores */
    uint64_t live;        /* bits: of the first 64 bytes, those that immediates should rather be */
    const uint8_t *where; /* ... read from at run time: host address of the bytes in guest RAM */
    const struct vcpu *vcpu; /* for its model's features only: never its state */
};

enum tr_end {
    TR_DONE,      /* block is complete */
    TR_NEED_PAGE, /* the first instruction goes on in the next page: call again with avail2 */
};

/* Result of a page walk. */
struct walk_result {
    gpa_t gpa;
    uint8_t page_bits; /* size of the guest's page, at least 12 */
    uint8_t perms;     /* enum rt_access for this MMU index; RT_WRITE only when dirty is set */
    bool global;
};

struct isa {
    const char *name;
    const struct ir_guest *guest;
    size_t env_size;
    int (*cpu_init)(struct vcpu *, const char *model, struct err *);
    void (*cpu_fini)(struct vcpu *);
    void (*model_help)(FILE *); /* the text of -cpu help */
    void (*cpu_reset)(struct vcpu *);
    enum tr_end (*translate)(struct ir_block *, const struct tr_ctx *);
    /* Fills *res, or env->fault and returns false. `access` is one of enum rt_access, or 0 to ask
     * only where the page is. */
    bool (*walk)(struct vcpu *, gva_t, unsigned access, unsigned mmu_idx, struct walk_result *);
    /* Delivers env->fault: changes state to the handler's first instruction (or resets). */
    void (*deliver)(struct vcpu *);
    /* Mode word for the block key, from current state. Bits 1..0 the MMU index. */
    uint32_t (*mode)(const struct vcpu *);
    gva_t (*fetch_address)(const struct vcpu *, uint64_t pc); /* linear address of pc */
    /* Takes posted events (interrupts, INIT ...) at an instruction boundary. False: vCPU sleeps. */
    bool (*events)(struct vcpu *);
    int (*disas)(struct strbuf *, const uint8_t *code, size_t n, uint64_t pc, uint32_t mode);
    /*
     * Debug registers. With this bit in the mode word every instruction runs alone; then, and for
     * one that own points name, `before` and, unless it faulted, `after` are called around it with
     * those that hit (bits by index). False: env->fault is to be delivered instead.
     */
    uint32_t mode_step;
    bool (*debug_before)(struct vcpu *, unsigned hits);
    void (*debug_after)(struct vcpu *, unsigned hits);
    /* For debuggers: a target description, and its registers by number; bytes, 0 for no such one.
     */
    void (*gdb_target)(const struct vcpu *, struct strbuf *);
    unsigned (*gdb_read)(struct vcpu *, unsigned n, uint8_t buf[64]);
    unsigned (*gdb_write)(struct vcpu *, unsigned n, const uint8_t *buf, size_t len);
    void (*dump)(const struct vcpu *, struct strbuf *); /* registers, for logs and reports */
    /* What the page tables in use map: a line for each page, or for each range of pages with the
     * same rights. False: paging is off. The vcpu is parked. */
    bool (*print_maps)(const struct vcpu *, bool ranges, struct strbuf *);
};

#endif
