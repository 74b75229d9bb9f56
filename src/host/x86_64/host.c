/* The x86-64 back end's table (ir/host.h) and its contexts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "host/x86_64/ctx.h"

static void ctx_close(struct ir_host_ctx *c)
{
    free(c->t1);
    free(c);
}

static struct ir_host_ctx *ctx_open(const struct ir_host_config *config, struct ir_codebuf *buf,
                                    struct err *err)
{
    struct ir_host_ctx *c = calloc(1, sizeof(*c));
    if (!c || !(c->t1 = t1_new()) || config->guest->nregs > MAX_GUEST_REGS) {
        free(c);
        err_set(err, ENOMEM, "cannot set up the x86-64 back end");
        return NULL;
    }
    c->guest = config->guest;
    c->code_lo = config->code_lo;
    c->code_hi = config->code_hi;
    c->to_rx = buf->to_rx;
    c->data = buf->data_base;
    caps_probe(c);
    ctx_map_registers(c);
    struct enc e = {.p = buf->hot};
    stubs_emit(c, &e);
    buf->hot = e.p;
    c->thunks = buf->cold;
    buf->cold += THUNKS * THUNK_BYTES;
    return c;
}

/* Return stacks with guard pages, empty, and the signal stack. */
static int returns_new(struct ir_host_ctx *c, struct rt_env *env, struct err *err)
{
    uint8_t *p =
        mmap(NULL, STACKS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return err_set(err, errno, "no memory for return stacks: %s", strerror(errno));
    }
    c->returns = p;
    const uint8_t *empty = c->ret_empty + c->to_rx;
    for (unsigned i = 0; i < RT_MODES; i++, p += RETURN_BYTES) {
        uint8_t *base = p + RETURN_BYTES - 16;
        memcpy(base, &empty, sizeof(empty));
        env->ret_sp_base[i] = (uint64_t)(uintptr_t)base;
        if (mprotect(p, RT_PAGE_SIZE, PROT_NONE)) {
            return err_set(err, errno, "cannot guard a return stack: %s", strerror(errno));
        }
    }
    env->ret_sp = env->ret_sp_base[0];
    return 0;
}

/* Where lines without a page lead (engine rule 1): nobody can read or write there. */
static int guard_new(struct ir_host_ctx *c, struct rt_env *env, struct err *err)
{
    void *p =
        mmap(NULL, GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return err_set(err, errno, "no memory for a guard page: %s", strerror(errno));
    }
    c->guard = p;
    env->base_guard = (uint64_t)(uintptr_t)p - RT_BASE_INVALID;
    for (unsigned idx = 0; idx < RT_MODES; idx++) {
        rt_base_clear(env, idx);
    }
    return 0;
}

static void ctx_detach(struct ir_host_ctx *c)
{
    signals_detach(c);
    if (c->guard) {
        munmap(c->guard, GUARD_BYTES);
        c->guard = NULL;
    }
    if (c->returns) {
        munmap(c->returns, STACKS_BYTES);
        c->returns = NULL;
    }
}

static int ctx_attach(struct ir_host_ctx *c, struct rt_env *env, struct err *err)
{
    env->host = c;
    env->jump_empty = c->jump_empty + c->to_rx;
    rt_jump_mend(env);
    int ret = guard_new(c, env, err);
    ret = ret ? ret : returns_new(c, env, err);
    return ret ? ret : signals_attach(c, err);
}

static enum rt_exit ctx_enter(struct ir_host_ctx *c, struct rt_env *env, const void *entry)
{
    enum rt_exit why = c->enter_code(env, entry);
    if (why == RT_EXIT_LINK) {
        struct ir_link *l = (struct ir_link *)(void *)(c->data + env->link_site * 8);
        env->link_site = (uint64_t)(uintptr_t)l;
        env->pc = l->pc;
    }
    return why;
}

static const struct ir_host x86_64_host = {
    .name = "x86-64",
    .open = ctx_open,
    .close = ctx_close,
    .attach = ctx_attach,
    .detach = ctx_detach,
    .emit = t1_emit,
    .link = link_make,
    .unlink = link_break,
    .chain = block_chain,
    .kill = block_kill,
    .move = block_move,
    .enter = ctx_enter,
    .settle = site_settle,
    .stored = cross_stored,
    .vec_run = vec_run,
    .disas = host_disas,
    .has = caps_has,
    .identify = caps_identify,
    .fpu_get = x87_get,
    .fpu_set = x87_set,
};

const struct ir_host *ir_host_native(void)
{
    return &x86_64_host;
}
