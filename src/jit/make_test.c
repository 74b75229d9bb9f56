/*
 * Mail that comes while a block is being made: to claim a page lets others run, and they write to
 * the pages the block is made from. The ISA is a toy: each instruction has 8 bytes and jumps to the
 * address in its first one.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/unit_test.h"
#include "core/isa.h"
#include "core/machine.h"
#include "ir/build.h"
#include "ir/interp.h"
#include "jit/internal.h"
#include "jit/jit.h"

enum { SIZE = 8, RAM = 0x10000 };

static struct jit_vcpu *jv;
static struct ram *ram;
static gva_t write_at; /* by the other vCPU, while the page of this address is walked to; 0: none */

static void other_writes(ram_off_t off, uint8_t byte)
{
    ram->host[off] = byte;
    jit_post_mail(jv, (struct jit_mail){.off = off, .len = 1});
}

static const struct ir_guest guest = {.vec_off = offsetof(struct rt_env, reg)};

static int toy_init(struct vcpu *v, const char *model, struct err *err)
{
    return 0;
}
static void toy_fini(struct vcpu *v)
{
}
static enum tr_end toy_translate(struct ir_block *b, const struct tr_ctx *t)
{
    ir_begin(b, &guest, t->pc, t->mode);
    if (t->avail + t->avail2 < SIZE) {
        return TR_NEED_PAGE;
    }
    ir_insn(b, t->pc, SIZE);
    ir_jump(b, t->code[0]);
    return TR_DONE;
}
static bool toy_walk(struct vcpu *v, gva_t va, unsigned access, unsigned idx, struct walk_result *w)
{
    if (write_at && jit_page_of(write_at + SIZE) == jit_page_of(va)) {
        other_writes(write_at, 7);
        write_at = 0;
    }
    *w = (struct walk_result){
        .gpa = va, .page_bits = RT_PAGE_BITS, .perms = RT_READ | RT_WRITE | RT_EXEC};
    return true;
}
static uint32_t toy_mode(const struct vcpu *v)
{
    return 0;
}
static gva_t toy_address(const struct vcpu *v, uint64_t pc)
{
    return pc;
}
static const struct isa toy = {.name = "toy",
                               .guest = &guest,
                               .env_size = sizeof(struct rt_env),
                               .cpu_init = toy_init,
                               .cpu_fini = toy_fini,
                               .translate = toy_translate,
                               .walk = toy_walk,
                               .mode = toy_mode,
                               .fetch_address = toy_address};

static int begin(void **state)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct err err;
    m->config = (struct machine_config){.vcpus = 2, .cpu = "toy", .accel_args = "tier=0"};
    m->mem = mem_map_new("memory", 0);
    ram = ram_set_add(&m->ram, "ram", RAM, &err);
    mem_map_add_ram(m->mem, 0, ram, 0, RAM);
    assert_int_equal(jit_add(m, &toy, 0, &err), 0);
    assert_int_equal(jit_add(m, &toy, 1, &err), 0);
    assert_int_equal(jit_take_ram(m, &err), 0);
    jv = jit_of(m->vcpu[0]);
    jv->jm->running = 1; /* this one */
    *state = m;
    return 0;
}

static int end(void **state)
{
    struct machine *m = *state;
    jv->jm->running = 0;
    jit_free(m);
    mem_map_free(m->mem);
    ram_set_free(&m->ram);
    free(m);
    return 0;
}

static bool claimed(ram_off_t page)
{
    return ram->code_pages[page >> RT_PAGE_BITS] & 1;
}

/* The first page's only block is written to: the page keeps its claim for the block that crosses.
 */
static void keeps_first_page(void **state)
{
    assert_non_null(jit_find(jv, 0x1100));
    other_writes(0x1100, 3);
    const struct jit_block *b = jit_find(jv, 0x1ffc);
    assert_non_null(b);
    assert_null(b->check);
    assert_true(claimed(0x1000) && claimed(0x2000));
}

/* The block that crosses is itself written to, before it is there. */
static void sees_first_page(void **state)
{
    assert_non_null(jit_find(jv, 0x1100));
    write_at = 0x1ffc;
    const struct jit_block *b = jit_find(jv, 0x1ffc);
    assert_non_null(b);
    ir_interp(jv->v->env, b->ir);
    assert_int_equal(jv->v->env->pc, 7);
}

/* So much is written to the first page that it is not protected any more. */
static void first_page_checked(void **state)
{
    assert_non_null(jit_find(jv, 0x1100));
    for (unsigned i = 0; i < 2000; i++) {
        other_writes(0x1f00, (uint8_t)i);
    }
    const struct jit_block *b = jit_find(jv, 0x1ffc);
    assert_non_null(b);
    assert_non_null(b->check);
    assert_false(claimed(0x1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_first_page, begin, end),
        cmocka_unit_test_setup_teardown(sees_first_page, begin, end),
        cmocka_unit_test_setup_teardown(first_page_checked, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
