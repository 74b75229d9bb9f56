/*
 * Address spaces, and what a virtual pc means in them: generations of page walks and of code
 * mappings, the salt of jump targets, return stacks.
 *
 * A generation is a number that is used once. Walks, jump targets, links across pages and
 * instruction pages carry the one they were made under and are good while it is in force; that
 * costs a flush nothing. An address space that does not run keeps its generations, so what was
 * known in it is good again when it comes back; only the soft TLB's tables begin empty.
 *
 * M3: what a flush of non-global pages leaves (entries of the tables, links, jump targets of
 *     kernel modes) was found through global pages only.
 * M4: INVLPG reaches global pages whatever address space found them. Walks of the upper half of
 *     the addresses lie where every space finds them. A global page in the lower half makes INVLPG
 *     flush everything while there are several spaces.
 */
#include <string.h>

#include "core/tlb_ops.h"
#include "jit/internal.h"

static uint64_t fresh(struct jit_vcpu *jv)
{
    return ++jv->last_gen;
}

uint64_t jit_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Engine rule 8: no return to code that another mode or address space called. */
static void switch_returns(struct jit_vcpu *jv, uint64_t salt)
{
    struct rt_env *env = jv->v->env;
    jv->returns[jv->returns_idx] = (struct jit_returns){env->jump_salt, env->ret_sp};
    jv->returns_idx = jv->mode & 3;
    const struct jit_returns *r = &jv->returns[jv->returns_idx];
    env->ret_sp = r->salt == salt && r->sp ? r->sp : env->ret_sp_base[jv->returns_idx];
}

/* A pc's meaning hangs on the mode word and the code mappings: both are in the salt. */
static void set_salt(struct jit_vcpu *jv)
{
    struct rt_env *env = jv->v->env;
    uint64_t gen = jv->generation[jit_is_user(jv->mode & 3)];
    struct jit_salt *s = &jv->salts[jv->mode & 3];
    if (s->mode != jv->mode || s->gen != gen) {
        uint64_t of_mode = (uint64_t)jv->mode * 0x9e3779b97f4a7c15ull;
        *s = (struct jit_salt){gen, jit_mix(jv->salt_secret ^ gen << 24 ^ of_mode), jv->mode};
    }
    env->epoch = gen;
    if (s->salt != env->jump_salt) {
        switch_returns(jv, s->salt);
        env->jump_salt = s->salt;
        rt_jump_mend(env);
    }
}

/* Code memory is used again: mappings are what they were, so links live on. */
void jit_forget_frames(struct jit_vcpu *jv)
{
    jv->salt_secret = jit_mix(jv->salt_secret + 1);
    memset(jv->salts, 0, sizeof(jv->salts));
    set_salt(jv);
}

void tlb_code_changed(struct vcpu *v)
{
    struct jit_vcpu *jv = jit_of(v);
    if (jv) {
        jv->mode = v->isa->mode(v);
        set_salt(jv);
    }
}

/* ---- Which pages code was fetched from ---- */

static void marks_clear(struct jit_marks *m)
{
    if (m->any) {
        memset(m, 0, sizeof(*m));
    }
}

static uint64_t *mark_of(struct jit_marks *m, gva_t va, uint64_t *bit)
{
    unsigned n =
        (va >> RT_PAGE_BITS ^ va >> (RT_PAGE_BITS + JIT_MARK_BITS)) & ((1u << JIT_MARK_BITS) - 1);
    *bit = 1ull << n % 64;
    return &m->bits[n / 64];
}

static bool marked(struct jit_marks *m, gva_t va)
{
    uint64_t bit, *word = mark_of(m, va, &bit);
    return *word & bit;
}

static void mark(struct jit_marks *m, gva_t va)
{
    uint64_t bit, *word = mark_of(m, va, &bit);
    *word |= bit;
    m->any = true;
}

void jit_space_mark(struct jit_vcpu *jv, unsigned idx, gva_t va, bool global)
{
    if (jit_is_user(idx)) {
        mark(global ? &jv->user_global_code : &jv->here->code, va);
    } else {
        mark(&jv->kernel_code[va >> 63], va);
        jv->local_code |= !global;
    }
}

void jit_space_fetched(struct jit_vcpu *jv, unsigned idx, gva_t va, ram_off_t page, bool global)
{
    bool user = jit_is_user(idx);
    jit_space_mark(jv, idx, va, global);
    jit_code_pages_add(user ? &jv->here->pages : &jv->kernel_pages, va, page);
}

/* ---- Generations ---- */

static void kernel_code_moved(struct jit_vcpu *jv)
{
    jv->stats.flushes_code++;
    jv->generation[0] = fresh(jv);
    marks_clear(&jv->kernel_code[0]);
    marks_clear(&jv->kernel_code[1]);
    jit_code_pages_clear(&jv->kernel_pages);
    jv->local_code = false;
}

static void user_code_moved(struct jit_vcpu *jv, struct jit_space *s)
{
    s->code_gen = fresh(jv);
    marks_clear(&s->code);
    jit_code_pages_clear(&s->pages);
}

/* The generations in force are those of the space that runs. */
static void use(struct jit_vcpu *jv, struct jit_space *s)
{
    jv->here = s;
    jv->walk_gen[0] = s->walk_gen;
    jv->generation[1] = s->code_gen;
}

static void all_user_code_moved(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < JIT_SPACES; i++) {
        user_code_moved(jv, &jv->space[i]);
    }
    marks_clear(&jv->user_global_code);
    use(jv, jv->here);
}

static void forget(struct jit_vcpu *jv, struct jit_space *s)
{
    s->walk_gen = fresh(jv);
    user_code_moved(jv, s);
}

/* The same, the space being the one that runs: its code may be where it was. */
static void forget_here(struct jit_vcpu *jv, struct jit_space *s)
{
    s->walk_gen = fresh(jv);
    use(jv, s);
    if (!jit_code_pages_hold(jv, &s->pages, 1)) {
        user_code_moved(jv, s);
        use(jv, s);
    }
}

static void forget_kernel_code(struct jit_vcpu *jv)
{
    jv->local_code = false; /* the pages tell again */
    if (!jit_code_pages_hold(jv, &jv->kernel_pages, 0)) {
        kernel_code_moved(jv);
    }
}

static struct jit_space *find(struct jit_vcpu *jv, unsigned asid)
{
    for (unsigned i = 0; i < JIT_SPACES; i++) {
        if (jv->space[i].asid == asid) {
            return &jv->space[i];
        }
    }
    return NULL;
}

/* The space of `asid`; a new one takes the place of what was not used for longest. */
static struct jit_space *find_or_make(struct jit_vcpu *jv, unsigned asid)
{
    struct jit_space *s = find(jv, asid);
    if (!s) {
        s = &jv->space[0];
        for (unsigned i = 1; i < JIT_SPACES; i++) {
            s = jv->space[i].used < s->used ? &jv->space[i] : s;
        }
        s->asid = asid;
        forget(jv, s);
    }
    s->used = fresh(jv);
    return s;
}

void jit_space_init(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < JIT_SPACES; i++) {
        jv->space[i].asid = i;
        forget(jv, &jv->space[i]);
    }
    jv->walk_gen[1] = fresh(jv);
    kernel_code_moved(jv);
    use(jv, &jv->space[0]);
    set_salt(jv);
}

/* Everything but the tables. `global`: global pages, too. */
void jit_space_flush(struct jit_vcpu *jv, bool global)
{
    for (unsigned i = 0; i < JIT_SPACES; i++) {
        if (&jv->space[i] != jv->here) {
            forget(jv, &jv->space[i]);
        }
    }
    if (global) {
        jv->walk_gen[1] = fresh(jv);
        jv->many = jv->here->asid != 0;
        jv->low_global = false;
        marks_clear(&jv->user_global_code);
    }
    forget_here(jv, jv->here);
    if (global || jv->local_code) {
        forget_kernel_code(jv);
    }
    set_salt(jv);
}

void jit_space_switch(struct jit_vcpu *jv, unsigned asid, bool keep)
{
    struct jit_space *s = find_or_make(jv, asid);
    if (!keep) {
        forget_here(jv, s);
    }
    use(jv, s);
    if (jv->local_code) {
        forget_kernel_code(jv);
    }
    set_salt(jv);
}

void jit_space_flush_page(struct jit_vcpu *jv, gva_t va)
{
    bool kernel = marked(&jv->kernel_code[va >> 63], va);
    bool global = marked(&jv->user_global_code, va);
    bool user = marked(&jv->here->code, va);
    kernel = kernel && jit_code_page_moved(jv, &jv->kernel_pages, 0, va);
    bool moved = (global || user) && jit_code_page_moved(jv, &jv->here->pages, 1, va);
    user &= moved;
    if (!kernel && !global && !user) { /* no links and jump targets hang on it */
        return;
    }
    if (kernel) {
        kernel_code_moved(jv);
    }
    if (global) {
        all_user_code_moved(jv);
    } else if (user) {
        user_code_moved(jv, jv->here);
        use(jv, jv->here);
    }
    set_salt(jv);
}

void jit_space_forget(struct jit_vcpu *jv, unsigned asid)
{
    struct jit_space *s = find(jv, asid);
    if (s) {
        forget(jv, s);
    }
}

void jit_space_free(struct jit_vcpu *jv)
{
    for (unsigned i = 0; i < JIT_SPACES; i++) {
        jit_code_pages_free(&jv->space[i].pages);
    }
    jit_code_pages_free(&jv->kernel_pages);
}
