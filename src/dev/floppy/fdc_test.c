/* The floppy controller with a drive and a DMA channel, programmed as a PC's software does. */
#include "dev/floppy/fdc.h"

#include <string.h>

#include "base/unit_test.h"
#include "dev/ata/test_rig.h"
#include "dev/dma/i8237.h"

enum { PORT = 0x3f0, DISK = 1474560, DMA_AT = 0x10000, TRACK = 18 };

struct rig {
    struct rig_base base;
    struct mem_map *io;
    struct irq_pin pin;
    bool irq;
    struct i8237_pair *dma;
    struct rig_medium medium;
    struct fdd fdd;
    struct fdc fdc;
    struct clock *clock;
};

static void see(void *opaque, unsigned n, bool level)
{
    ((struct rig *)opaque)->irq = level;
}

static void out8(struct rig *r, unsigned port, unsigned val)
{
    mem_write(r->io, port, 1, val);
}

static unsigned in8(struct rig *r, unsigned port)
{
    uint64_t v;
    mem_read(r->io, port, 1, &v);
    return (unsigned)v;
}

static void settle(struct rig *r)
{
    rig_settle(&r->base, &r->fdd.disk);
}

static void send(struct rig *r, const char *hex)
{
    unsigned byte;
    int n;
    for (; sscanf(hex, "%2x%n", &byte, &n) == 1; hex += n) {
        assert_int_equal(in8(r, PORT + 4) & 0xc0, 0x80);
        out8(r, PORT + 5, byte);
    }
}

/* The result as text. */
static const char *result(struct rig *r)
{
    static char text[64];
    char *at = text;
    settle(r);
    while ((in8(r, PORT + 4) & 0xd0) == 0xd0) {
        at += sprintf(at, "%02x", in8(r, PORT + 5));
    }
    *at = 0;
    return text;
}

static void start(struct rig *r)
{
    out8(r, PORT + 2, 0);
    out8(r, PORT + 2, 0x1c); /* drive A's motor, DMA, no reset */
    assert_true(r->irq);
    for (unsigned i = 0; i < 4; i++) {
        char want[8];
        snprintf(want, sizeof(want), "%02x00", 0xc0 + i);
        send(r, "08");
        assert_string_equal(result(r), want);
        assert_false(r->irq);
    }
    out8(r, PORT + 7, 0); /* 500 kbit/s */
    send(r, "03af02");    /* SPECIFY: DMA */
    send(r, "0700");
    send(r, "08");
    assert_string_equal(result(r), "2000");
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    rig_base_up(&r->base);
    r->io = mem_map_new("io", 0x10000);
    irq_pin_init(&r->pin);
    irq_pin_add(&r->pin, see, r, 0);
    r->dma = i8237_new(r->base.mem);
    i8237_map(r->dma, r->io);
    rig_open(&r->base, &r->medium, DISK, 512, "floppy");
    disk_init(&r->fdd.disk, NULL, r->medium.block);
    fdd_init(&r->fdd, FDD_NONE);
    r->clock = clock_new_virtual();
    r->fdc.clock = r->clock;
    fdc_init(&r->fdc);
    irq_connect(&r->fdc.irq, &r->pin);
    r->fdc.dma = r->dma;
    r->fdc.dma_channel = 2;
    i8237_connect(r->dma, 2, fdc_dma_ready, &r->fdc);
    mem_map_add_mmio(r->io, PORT, 6, &fdc_ports, &r->fdc);
    mem_map_add_mmio(r->io, PORT + 7, 1, &fdc_port7, &r->fdc);
    fdc_attach(&r->fdc, 0, &r->fdd);
    start(r);
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    settle(r);
    fdc_attach(&r->fdc, 0, NULL);
    fdc_fini(&r->fdc);
    disk_fini(&r->fdd.disk);
    clock_free(r->clock);
    block_close(r->medium.block);
    close(r->medium.fd);
    i8237_free(r->dma);
    irq_pin_fini(&r->pin);
    mem_map_free(r->io);
    rig_base_down(&r->base);
    free(r);
    return 0;
}

static void program_dma(struct rig *r, unsigned mode, unsigned count)
{
    out8(r, 0x0a, 6);
    out8(r, 0x0c, 0);
    out8(r, 0x0b, mode | 2);
    out8(r, 0x04, 0);
    out8(r, 0x04, 0);
    out8(r, 0x81, DMA_AT >> 16);
    out8(r, 0x05, (count - 1) & 0xff);
    out8(r, 0x05, (count - 1) >> 8);
    out8(r, 0x0a, 2);
}

static void seek(struct rig *r, unsigned cylinder)
{
    char text[16];
    snprintf(text, sizeof(text), "0f00%02x", cylinder);
    send(r, text);
    assert_true(r->irq);
    send(r, "08");
    snprintf(text, sizeof(text), "20%02x", cylinder);
    assert_string_equal(result(r), text);
}

/* ---- Tests ---- */

static void reads_by_dma(void **state)
{
    struct rig *r = *state;
    program_dma(r, 0x44, 3 * 512);
    seek(r, 5);
    send(r, "e6000500020212"
            "1bff");
    assert_string_equal(result(r), "00000005000502");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(rig_peek32(&r->base, DMA_AT + 512 * i), 5 * 2 * TRACK + 1 + i);
    }
}

static void two_heads_in_one_command(void **state)
{
    struct rig *r = *state;
    program_dma(r, 0x44, 36 * 512);
    send(r, "e6000000010212"
            "1bff");
    assert_string_equal(result(r), "00000001000102");
    assert_int_equal(rig_peek32(&r->base, DMA_AT + 35 * 512), 35);
    program_dma(r, 0x44, 36 * 512); /* without MT the track's end is the end */
    send(r, "66000000010212"
            "1bff");
    assert_string_equal(result(r), "40800000001202");
}

static void writes_and_fills_up(void **state)
{
    struct rig *r = *state;
    program_dma(r, 0x48, 700); /* ends within the second sector */
    gmem_fill(r->base.mem, DMA_AT, 0xa5, 1024);
    send(r, "c5000000030212"
            "1bff");
    assert_string_equal(result(r), "00000000000502");
    assert_int_equal(rig_disk32(&r->medium, 1024), 0xa5a5a5a5);
    assert_int_equal(rig_disk32(&r->medium, 1536 + 184), 0xa5a5a5a5);
    assert_int_equal(rig_disk32(&r->medium, 1536 + 188), 0);
    assert_int_equal(rig_disk32(&r->medium, 2048), 4);
}

static void programmed_io(void **state)
{
    struct rig *r = *state;
    send(r, "03af03"); /* no DMA */
    send(r, "46000000070207"
            "1bff");
    settle(r);
    assert_true(r->irq);
    assert_int_equal(in8(r, PORT + 4), 0xf0);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(r, PORT + 5), i % 4 ? 0 : 6);
    }
    assert_string_equal(result(r), "40800000000702");
    send(r, "45000000070207"
            "1bff");
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(r, PORT + 4) & 0xc0, 0x80);
        out8(r, PORT + 5, 0x77);
    }
    assert_string_equal(result(r), "40800000000702");
    assert_int_equal(rig_disk32(&r->medium, 6 * 512), 0x77777777);
}

/* The processor has what it wants and reads no more. */
static void overrun_ends_programmed_io(void **state)
{
    struct rig *r = *state;
    send(r, "03af03");
    send(r, "460000000102121bff");
    settle(r);
    for (unsigned i = 0; i < 512; i++) {
        clock_advance(r->clock, 1000000);
        assert_int_equal(in8(r, PORT + 5), 0);
    }
    settle(r);
    in8(r, PORT + 5);
    clock_advance(r->clock, 99000000);
    assert_int_equal(in8(r, PORT + 4), 0xf0);
    clock_advance(r->clock, 102000000);
    assert_true(r->irq);
    assert_string_equal(result(r), "40100000000202");
}

static void what_is_not_there_is_not_found(void **state)
{
    struct rig *r = *state;
    program_dma(r, 0x44, 512);
    send(r, "e6000000130213"
            "1bff"); /* sector 19 */
    assert_string_equal(result(r), "40040000001302");
    send(r, "e6000300010212"
            "1bff"); /* another cylinder */
    assert_string_equal(result(r), "40041003000102");
    send(r, "e6000000010312"
            "1bff"); /* another size */
    assert_string_equal(result(r), "40040000000103");
    send(r, "e6000000000212"
            "1bff"); /* sector 0 */
    assert_string_equal(result(r), "40040000000002");
    send(r, "e6010000010212"
            "1bff"); /* another drive */
    assert_string_equal(result(r), "41010000000102");
    out8(r, PORT + 7, 2); /* another rate */
    send(r, "4a00");
    assert_string_equal(result(r), "40010000000102");
}

static void implied_seek_and_read_id(void **state)
{
    struct rig *r = *state;
    send(r, "13005700");
    program_dma(r, 0x44, 512);
    send(r, "e6042101010212"
            "1bff");
    assert_string_equal(result(r), "04000021010202");
    assert_int_equal(rig_peek32(&r->base, DMA_AT), (33 * 2 + 1) * TRACK);
    send(r, "4a04");
    assert_string_equal(result(r), "04000021010102");
    send(r, "4a04");
    assert_string_equal(result(r), "04000021010202");
    send(r, "0e");
    assert_string_equal(result(r), "21000000af0212005700");
}

static void formats_a_track(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < TRACK; i++) {
        rig_poke32(&r->base, DMA_AT + 4 * i, 0x02000000 | (i + 1) << 16 | 1 << 8 | 2);
    }
    seek(r, 2);
    program_dma(r, 0x48, 4 * TRACK);
    send(r, "4d0402121bf6");
    assert_int_equal(strncmp(result(r), "040000", 6), 0);
    unsigned first = (2 * 2 + 1) * TRACK;
    assert_int_equal(rig_disk32(&r->medium, first * 512), 0xf6f6f6f6);
    assert_int_equal(rig_disk32(&r->medium, (first + 17) * 512 + 508), 0xf6f6f6f6);
    assert_int_equal(rig_disk32(&r->medium, (first + 18) * 512), first + 18);
    assert_int_equal(rig_disk32(&r->medium, (first - 1) * 512), first - 1);
}

static void verifies(void **state)
{
    struct rig *r = *state;
    send(r, "f68000000102121b03"); /* three sectors */
    assert_string_equal(result(r), "00000000000402");
    send(r, "7600000001"
            "02121bff");
    assert_string_equal(result(r), "00000001000102");
}

static void small_commands(void **state)
{
    static const char *const pairs[][2] = {
        {"10", "90"}, {"18", "41"},   {"94", "10"},   {"14", "00"}, {"1f", "80"},
        {"08", "80"}, {"0400", "38"}, {"0401", "29"}, {"ff", "80"},
    };
    struct rig *r = *state;
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        send(r, pairs[i][0]);
        assert_string_equal(result(r), pairs[i][1]);
    }
}

/* A drive that is none never says that it is at track 0. */
static void recalibrate_without_a_drive(void **state)
{
    struct rig *r = *state;
    send(r, "0701");
    send(r, "08");
    assert_string_equal(result(r), "7100");
}

static void lock_keeps_the_configuration(void **state)
{
    struct rig *r = *state;
    send(r, "13005a11");
    send(r, "94");
    result(r);
    out8(r, PORT + 4, 0x80); /* DSR's reset */
    send(r, "0e");
    assert_string_equal(result(r), "00000000af0200804a11");
    send(r, "14");
    result(r);
    out8(r, PORT + 4, 0x80);
    send(r, "0e");
    assert_string_equal(result(r), "00000000af0200002000");
}

static void disk_change(void **state)
{
    struct rig *r = *state;
    assert_int_equal(in8(r, PORT + 7), 0x80);
    seek(r, 1);
    assert_int_equal(in8(r, PORT + 7), 0);
    fdc_change_medium(&r->fdc, &r->fdd, NULL);
    seek(r, 2);
    assert_int_equal(in8(r, PORT + 7), 0x80);
    program_dma(r, 0x44, 512);
    send(r, "e6000200010212"
            "1bff");
    assert_string_equal(result(r), "40010002000102");
    fdc_change_medium(&r->fdc, &r->fdd, r->medium.block);
    assert_int_equal(in8(r, PORT + 7), 0x80);
    seek(r, 3);
    assert_int_equal(in8(r, PORT + 7), 0);
}

static void reset_while_the_disk_works(void **state)
{
    struct rig *r = *state;
    program_dma(r, 0x44, 512);
    send(r, "e6000000010212"
            "1bff");
    assert_int_equal(in8(r, PORT + 4), 0x10);
    out8(r, PORT + 2, 0x18);
    assert_int_equal(in8(r, PORT + 4), 0);
    out8(r, PORT + 2, 0x1c);
    assert_int_equal(in8(r, PORT + 4), 0);
    assert_false(r->irq);
    settle(r);
    assert_int_equal(in8(r, PORT + 4), 0x80);
    assert_true(r->irq);
    assert_int_equal(rig_peek32(&r->base, DMA_AT), 0);
    send(r, "08");
    assert_string_equal(result(r), "c000");
}

/* The channel is opened after the command, as no driver should. */
static void waits_for_the_channel(void **state)
{
    struct rig *r = *state;
    send(r, "e6000000020212"
            "1bff");
    settle(r);
    assert_int_equal(in8(r, PORT + 4), 0x10);
    assert_int_equal(in8(r, 8) >> 4, 4);
    program_dma(r, 0x44, 512);
    assert_string_equal(result(r), "00000000000302");
    assert_int_equal(rig_peek32(&r->base, DMA_AT), 1);
}

/*
 * CVE-2015-3456 ("VENOM"): a FIFO whose index runs on when commands of variable length get bytes
 * without end. Here every first byte, then more bytes than any buffer has, then reads without end;
 * the neighbours of the buffers must not change, and a reset must bring all back.
 */
static void venom_the_fifo_index_cannot_leave_it(void **state)
{
    struct rig *r = *state;
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned filler = 0; filler < 2; filler++) {
            out8(r, PORT + 5, first);
            for (unsigned i = 0; i < 2000; i++) {
                out8(r, PORT + 5, filler ? 0x7f : i & 0x7f);
                assert_true(r->fdc.cmd_len <= sizeof(r->fdc.cmd));
                assert_true(r->fdc.cmd_len <= r->fdc.cmd_need);
                assert_true(r->fdc.pos <= r->fdc.len && r->fdc.len <= sizeof(r->fdc.buf));
                assert_true(r->fdc.result_pos <= r->fdc.result_len);
                assert_true(r->fdc.result_len <= sizeof(r->fdc.result));
            }
            settle(r);
            for (unsigned i = 0; i < 2000; i++) {
                in8(r, PORT + 5);
                assert_true(r->fdc.result_pos <= r->fdc.result_len);
                assert_true(r->fdc.pos <= r->fdc.len);
            }
            settle(r);
            out8(r, PORT + 2, 0x18);
            out8(r, PORT + 2, 0x1c);
            settle(r);
        }
    }
    start(r);
    send(r, "10");
    assert_string_equal(result(r), "90");
}

/* The command has found its sector, and then the medium is taken out. */
static void medium_goes_while_a_write_waits(void **state)
{
    struct rig *r = *state;
    for (unsigned dma = 0; dma < 2; dma++) {
        out8(r, 0x0a, 6);
        send(r, dma ? "03af02" : "03af03");
        send(r, "450000000102121bff");
        fdc_change_medium(&r->fdc, &r->fdd, NULL);
        if (dma) {
            program_dma(r, 0x48, 512);
        }
        for (unsigned i = 0; !dma && i < 512; i++) {
            out8(r, PORT + 5, i & 0xff);
        }
        assert_string_equal(result(r), "40010000000102");
        fdc_change_medium(&r->fdc, &r->fdd, r->medium.block);
    }
}

static void geometry_follows_from_the_size(void **state)
{
    static const struct {
        uint64_t bytes;
        unsigned cylinders, heads, track;
        enum fdd_type type;
    } rows[] = {
        {163840, 40, 1, 8, FDD_120},   {184320, 40, 1, 9, FDD_120},   {327680, 40, 2, 8, FDD_120},
        {368640, 40, 2, 9, FDD_120},   {737280, 80, 2, 9, FDD_144},   {1228800, 80, 2, 15, FDD_120},
        {1474560, 80, 2, 18, FDD_144}, {2949120, 80, 2, 36, FDD_288}, {1296384, 80, 2, 18, FDD_144},
        {512, 40, 1, 8, FDD_120},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct fdd_geometry *g = fdd_geometry_of(rows[i].bytes);
        assert_int_equal(g->cylinders, rows[i].cylinders);
        assert_int_equal(g->heads, rows[i].heads);
        assert_int_equal(g->track, rows[i].track);
        assert_int_equal(g->type, rows[i].type);
        assert_int_equal(g->sectors, g->cylinders * g->heads * g->track);
    }
    assert_null(fdd_geometry_of(2949121));
    assert_null(fdd_geometry_of(0));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)
    const struct CMUnitTest tests[] = {
        T(reads_by_dma),
        T(two_heads_in_one_command),
        T(writes_and_fills_up),
        T(programmed_io),
        T(overrun_ends_programmed_io),
        T(what_is_not_there_is_not_found),
        T(implied_seek_and_read_id),
        T(formats_a_track),
        T(verifies),
        T(small_commands),
        T(recalibrate_without_a_drive),
        T(lock_keeps_the_configuration),
        T(disk_change),
        T(medium_goes_while_a_write_waits),
        T(reset_while_the_disk_works),
        T(waits_for_the_channel),
        T(venom_the_fifo_index_cannot_leave_it),
        cmocka_unit_test(geometry_follows_from_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
