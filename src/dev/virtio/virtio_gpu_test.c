/* The virtio GPU: every command, what is on the screen, and drivers that mean no good. */
#include "dev/virtio/virtio_gpu.h"

#include "base/unit_test.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_test_rig.h"
#include "display/display.h"

enum {
    EDID_FEATURE = 2,
    REQUEST = VRIG_DATA, /* where requests lie, and answers */
    ANSWER = VRIG_DATA + 0x8000,
    PICTURE = 0x50000,
    CONFIG = 0x100,
    DISPLAY_INFO = 0x100,
    CREATE,
    UNREF,
    SCANOUT,
    FLUSH,
    TRANSFER,
    ATTACH,
    DETACH,
    CAPSET_INFO,
    CAPSET,
    GET_EDID,
    CURSOR = 0x300,
    MOVE,
    OK = 0x1100,
    OK_INFO,
    OK_EDID = 0x1104,
    UNSPEC = 0x1200,
    NO_MEMORY,
    NO_SCANOUT,
    NO_RESOURCE,
    BAD_PARAMETER = 0x1205,
    BGRA = 1,
    BGRX = 2,
};

struct shown {
    unsigned width, height;
    uint32_t pixels[256 * 256];
};

static struct shown shown;

static int rig_new(void **state, const char *args)
{
    struct err err;
    struct vrig *r = vrig_new();
    r->m->display = display_new(r->m->clock);
    if (!vrig_add(r, &virtio_gpu_type, args, &err)) {
        fail_msg("%s", err.text);
    }
    vrig_start(r, EDID_FEATURE, 2);
    *state = r;
    return 0;
}

static int rig_up(void **state)
{
    return rig_new(state, "");
}

static int rig_up_small(void **state)
{
    return rig_new(state, "max_hostmem=1M,edid=off,xres=800,yres=600");
}

static int rig_down(void **state)
{
    vrig_free(*state);
    return 0;
}

/* A request of words after the header, and the answer's type. */
static uint32_t ask_words(struct vrig *r, uint32_t type, const uint32_t *words, unsigned count)
{
    uint8_t *at = r->ram + REQUEST, *ring = r->ram + VRIG_RINGS;
    memset(at, 0, 24);
    memset(r->ram + ANSWER, 0xee, 2048);
    store_le32(at, type);
    for (unsigned i = 0; i < count; i++) {
        store_le32(at + 24 + 4 * i, words[i]);
    }
    unsigned n = r->idx[0]++ % (VRIG_SIZE / 2) * 2; /* two descriptors each */
    store_le64(ring + 16 * n, REQUEST);
    store_le32(ring + 16 * n + 8, 24 + 4 * count);
    store_le16(ring + 16 * n + 12, 1);
    store_le16(ring + 16 * n + 14, (uint16_t)(n + 1));
    store_le64(ring + 16 * n + 16, ANSWER);
    store_le32(ring + 16 * n + 24, 2048);
    store_le16(ring + 16 * n + 28, 2);
    store_le16(ring + 0x204 + 2 * ((r->idx[0] - 1u) % VRIG_SIZE), (uint16_t)n);
    store_le16(ring + 0x202, r->idx[0]);
    vrig_reg(r, 0x50, 0);
    assert_true(vrig_used(r, 0) >= 24);
    return load_le32(r->ram + ANSWER);
}

#define ASK(r, type, ...)                                                                          \
    ask_words(r, type, (const uint32_t[]){__VA_ARGS__},                                            \
              sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void look(void *opaque, const struct surface *s)
{
    memset(&shown, 0, sizeof(shown));
    if (s) {
        shown.width = s->width;
        shown.height = s->height;
        for (unsigned y = 0; y < s->height && y < 256; y++) {
            for (unsigned x = 0; x < s->width && x < 256; x++) {
                shown.pixels[y * 256 + x] = s->pixels[y * s->stride + x];
            }
        }
    }
}

static uint32_t pixel(struct vrig *r, unsigned x, unsigned y)
{
    display_look(r->m->display, look, NULL);
    return shown.pixels[y * 256 + x];
}

/* Resource 1 of 64 x 32 with a backing of two pieces, on the screen. */
static void show_one(struct vrig *r, uint32_t format)
{
    assert_int_equal(ASK(r, CREATE, 1, format, 64, 32), OK);
    assert_int_equal(ASK(r, ATTACH, 1, 2, PICTURE, 0, 4096, 0, PICTURE + 8192, 0, 4096, 0), OK);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 64, 32, 0, 1), OK);
}

static uint32_t transfer(struct vrig *r, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    return ASK(r, TRANSFER, x, y, w, h, (y * 64 + x) * 4, 0, 1, 0);
}

/* ---- What it is ---- */

static void display_info_and_edid(void **state)
{
    struct vrig *r = *state;
    const uint8_t *a = r->ram + ANSWER;
    assert_int_equal(vrig_read(r, 8), 16);
    assert_int_equal(vrig_read(r, 0x10) & 3, EDID_FEATURE);
    assert_int_equal(vrig_read(r, CONFIG + 8), 1);
    assert_int_equal(vrig_read(r, CONFIG + 12), 0);
    assert_int_equal(ask_words(r, DISPLAY_INFO, NULL, 0), OK_INFO);
    assert_int_equal(load_le32(a + 32), 1280);
    assert_int_equal(load_le32(a + 36), 800);
    assert_int_equal(load_le32(a + 40), 1);
    assert_int_equal(load_le32(a + 24 + 24 + 16), 0); /* the second is not there */
    assert_int_equal(ASK(r, GET_EDID, 0, 0), OK_EDID);
    assert_int_equal(load_le32(a + 24), 128);
    assert_memory_equal(a + 32, "\0\xff\xff\xff\xff\xff\xff\0", 8);
    assert_int_equal(ASK(r, GET_EDID, 1, 0), NO_SCANOUT);
    assert_int_equal(ASK(r, CAPSET_INFO, 0, 0), BAD_PARAMETER);
    assert_int_equal(ASK(r, CAPSET, 0, 0), BAD_PARAMETER);
}

static void fences_come_back(void **state)
{
    struct vrig *r = *state;
    uint8_t *at = r->ram + VRIG_DATA + 0x4000;
    memset(at, 0, 24);
    store_le32(at, DISPLAY_INFO);
    store_le32(at + 4, 1);
    store_le64(at + 8, 0x123456789abcull);
    store_le32(at + 16, 77);
    uint8_t *ring = r->ram + VRIG_RINGS;
    store_le64(ring, VRIG_DATA + 0x4000);
    store_le32(ring + 8, 24);
    store_le16(ring + 12, 1);
    store_le16(ring + 14, 1);
    store_le64(ring + 16, ANSWER);
    store_le32(ring + 24, 30); /* less than the answer: it is cut */
    store_le16(ring + 28, 2);
    memset(r->ram + ANSWER, 0xee, 64);
    store_le16(ring + 0x202, ++r->idx[0]);
    vrig_reg(r, 0x50, 0);
    assert_int_equal(vrig_used(r, 0), 30);
    assert_int_equal(load_le32(r->ram + ANSWER), OK_INFO);
    assert_int_equal(load_le32(r->ram + ANSWER + 4), 1);
    assert_int_equal(load_le64(r->ram + ANSWER + 8), 0x123456789abcull);
    assert_int_equal(load_le32(r->ram + ANSWER + 16), 77);
    assert_int_equal(r->ram[ANSWER + 30], 0xee);
}

/* ---- Pictures ---- */

static void picture_reaches_the_screen(void **state)
{
    struct vrig *r = *state;
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(shown.width, 640);
    store_le32(r->ram + PICTURE, 0xff112233);
    store_le32(r->ram + PICTURE + 8192 + 63 * 4, 0x12445566); /* line 16, the last pixel */
    show_one(r, BGRX);
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(shown.width, 64);
    assert_int_equal(shown.height, 32);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 16, 1, 0), OK);
    assert_int_equal(pixel(r, 0, 0), 0x112233);
    assert_int_equal(pixel(r, 63, 16), 0); /* not flushed */
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), OK);
    assert_int_equal(pixel(r, 63, 16), 0x445566);
    store_le32(r->ram + PICTURE + (3 * 64 + 5) * 4, 0xabcdef); /* a part by its own offset */
    store_le32(r->ram + PICTURE, 0);
    assert_int_equal(transfer(r, 5, 3, 1, 1), OK);
    assert_int_equal(ASK(r, FLUSH, 5, 3, 1, 1, 1, 0), OK);
    assert_int_equal(pixel(r, 5, 3), 0xabcdef);
    assert_int_equal(pixel(r, 0, 0), 0x112233);
}

static void part_of_a_resource_is_shown(void **state)
{
    struct vrig *r = *state;
    show_one(r, BGRX);
    store_le32(r->ram + PICTURE + (9 * 64 + 20) * 4, 0x010203);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, SCANOUT, 16, 8, 32, 16, 0, 1), OK);
    assert_int_equal(pixel(r, 4, 1), 0x010203);
    assert_int_equal(shown.width, 32);
    store_le32(r->ram + PICTURE + 4096 + (23 * 64 + 47) * 4, 0x040506);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 16, 32, 1, 0), OK); /* beside it */
    assert_int_equal(pixel(r, 31, 15), 0);
    assert_int_equal(ASK(r, FLUSH, 47, 23, 17, 9, 1, 0), OK); /* its corner */
    assert_int_equal(pixel(r, 31, 15), 0x040506);
}

static void formats(void **state)
{
    static const struct {
        uint32_t format, want;
    } all[] = {{1, 0x332211},  {2, 0x332211},  {3, 0x223344},   {4, 0x223344},
               {67, 0x112233}, {68, 0x443322}, {121, 0x443322}, {134, 0x112233}};
    struct vrig *r = *state;
    memcpy(r->ram + PICTURE, "\x11\x22\x33\x44", 4);
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        show_one(r, all[i].format);
        assert_int_equal(transfer(r, 0, 0, 1, 1), OK);
        assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), OK);
        assert_int_equal(pixel(r, 0, 0), all[i].want);
        assert_int_equal(ASK(r, UNREF, 1, 0), OK);
    }
}

static void screen_goes_dark(void **state)
{
    struct vrig *r = *state;
    store_le32(r->ram + PICTURE, 0x112233);
    show_one(r, BGRX);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), OK);
    assert_int_equal(pixel(r, 0, 0), 0x112233);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 0, 0, 0, 0), OK);
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 64, 32, 0, 1), OK);
    assert_int_equal(pixel(r, 0, 0), 0x112233);
    assert_int_equal(ASK(r, UNREF, 1, 0), OK);
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), NO_RESOURCE);
    show_one(r, BGRX);
    vrig_start(r, 0, 2); /* a reset: all are gone */
    assert_int_equal(ASK(r, UNREF, 1, 0), NO_RESOURCE);
}

/* ---- The cursor ---- */

static void point(struct vrig *r, uint32_t type, int x, int y, uint32_t resource)
{
    uint8_t *at = r->ram + VRIG_DATA + 0x5000;
    memset(at, 0, 56);
    store_le32(at, type);
    store_le32(at + 28, (uint32_t)x);
    store_le32(at + 32, (uint32_t)y);
    store_le32(at + 40, resource);
    vrig_offer(r, 1, VRIG_DATA + 0x5000, 56, false);
    assert_int_equal(vrig_used(r, 1), 0);
}

static void cursor_over_the_picture(void **state)
{
    struct vrig *r = *state;
    show_one(r, BGRX);
    memset(r->ram + PICTURE, 0x80, 0x3000);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), OK);
    assert_int_equal(ASK(r, CREATE, 2, BGRA, 64, 64), OK);
    assert_int_equal(ASK(r, ATTACH, 2, 1, 0x60000, 0, 16384, 0), OK);
    memset(r->ram + 0x60000, 0, 16384);
    store_le32(r->ram + 0x60000, 0xff0000ff);
    store_le32(r->ram + 0x60004, 0x80400000); /* half */
    store_le32(r->ram + 0x60000 + 63 * 65 * 4, 0xffffffff);
    assert_int_equal(ASK(r, TRANSFER, 0, 0, 64, 64, 0, 0, 2, 0), OK);
    point(r, CURSOR, 10, 5, 2);
    assert_int_equal(pixel(r, 10, 5), 0x0000ff);
    assert_int_equal(pixel(r, 11, 5), 0x804040);
    assert_int_equal(pixel(r, 12, 5), 0x808080);
    point(r, MOVE, 20, 6, 0);
    assert_int_equal(pixel(r, 10, 5), 0x808080);
    assert_int_equal(pixel(r, 20, 6), 0x0000ff);
    point(r, MOVE, -63, -63, 0); /* its last pixel only */
    assert_int_equal(pixel(r, 0, 0), 0xffffff);
    assert_int_equal(pixel(r, 20, 6), 0x808080);
    point(r, MOVE, INT32_MIN, INT32_MAX, 0);
    point(r, MOVE, INT32_MAX, INT32_MIN, 0);
    assert_int_equal(pixel(r, 0, 0), 0x808080);
    point(r, CURSOR, 0, 0, 0);
    assert_int_equal(pixel(r, 0, 0), 0x808080);
    vrig_offer(r, 1, VRIG_DATA + 0x5000, 8, false); /* too short */
    assert_int_equal(vrig_used(r, 1), 0);
}

/* ---- A new size ---- */

static void the_driver_is_told_of_a_size(void **state)
{
    struct vrig *r = *state;
    assert_true(display_takes_size(r->m->display));
    display_want_size(r->m->display, 1024, 768);
    pixel(r, 0, 0);
    assert_int_equal(vrig_read(r, 0x60), VIRTIO_INT_CONFIG);
    assert_int_equal(vrig_read(r, CONFIG), 1);
    assert_int_equal(ask_words(r, DISPLAY_INFO, NULL, 0), OK_INFO);
    assert_int_equal(load_le32(r->ram + ANSWER + 32), 1024);
    vrig_reg(r, CONFIG + 8, 9); /* not the driver's */
    vrig_reg(r, CONFIG, 9);
    assert_int_equal(vrig_read(r, CONFIG + 8), 1);
    assert_int_equal(vrig_read(r, CONFIG), 1);
    vrig_reg(r, CONFIG + 4, 2);
    assert_int_equal(vrig_read(r, CONFIG), 1);
    vrig_reg(r, CONFIG + 4, 1);
    assert_int_equal(vrig_read(r, CONFIG), 0);
    assert_int_equal(vrig_read(r, CONFIG + 4), 0);
    display_want_size(r->m->display, 10, 100000);
    pixel(r, 0, 0);
    assert_int_equal(vrig_read(r, CONFIG), 0);
}

/* ---- Hostile drivers ---- */

static void bad_requests(void **state)
{
    struct vrig *r = *state;
    assert_int_equal(ASK(r, CREATE, 0, BGRX, 64, 32), NO_RESOURCE);
    assert_int_equal(ASK(r, CREATE, 1, 5, 64, 32), BAD_PARAMETER);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 0, 32), BAD_PARAMETER);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 0x10000, 0x10000), BAD_PARAMETER);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 0xffffffff, 0xffffffff), BAD_PARAMETER);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 16384, 16384), NO_MEMORY);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 64), BAD_PARAMETER); /* short */
    show_one(r, BGRX);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 64, 32), NO_RESOURCE);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 64, 32, 1, 1), NO_SCANOUT);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 64, 32, 0, 7), NO_RESOURCE);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 65, 32, 0, 1), BAD_PARAMETER);
    assert_int_equal(ASK(r, SCANOUT, 1, 0, 0xffffffff, 32, 0, 1), BAD_PARAMETER);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 0, 0, 0, 1), BAD_PARAMETER);
    assert_int_equal(ASK(r, FLUSH, 64, 0, 1, 1, 1, 0), BAD_PARAMETER);
    assert_int_equal(ASK(r, FLUSH, 2, 2, 0xffffffff, 0xffffffff, 1, 0), BAD_PARAMETER);
    assert_int_equal(transfer(r, 0, 31, 64, 2), BAD_PARAMETER);
    assert_int_equal(ASK(r, TRANSFER, 0, 0, 1, 1, 8192, 0, 1, 0), BAD_PARAMETER);
    assert_int_equal(ASK(r, TRANSFER, 0, 0, 1, 1, 0xffffffff, 0xffffffff, 1, 0), BAD_PARAMETER);
    assert_int_equal(ASK(r, TRANSFER, 0, 0, 64, 32, 8188, 0, 1, 0), OK); /* what there is */
    assert_int_equal(ASK(r, TRANSFER, 0, 0, 1, 1, 0, 0, 9, 0), NO_RESOURCE);
    assert_int_equal(ASK(r, UNREF, 2, 0), NO_RESOURCE);
    assert_int_equal(ASK(r, 0x200, 0, 0), UNSPEC);
    assert_int_equal(ASK(r, 0, 0, 0), UNSPEC);
}

static void bad_backings(void **state)
{
    struct vrig *r = *state;
    assert_int_equal(ASK(r, ATTACH, 1, 1, PICTURE, 0, 4096, 0), NO_RESOURCE);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 64, 32), OK);
    assert_int_equal(transfer(r, 0, 0, 1, 1), UNSPEC);
    assert_int_equal(ASK(r, DETACH, 1, 0), NO_RESOURCE);
    assert_int_equal(ASK(r, ATTACH, 1, 0), BAD_PARAMETER);
    assert_int_equal(ASK(r, ATTACH, 1, 2, PICTURE, 0, 4096, 0), BAD_PARAMETER); /* one is missing */
    assert_int_equal(ASK(r, ATTACH, 1, 0xffffffff, PICTURE, 0, 4096, 0), BAD_PARAMETER);
    /* Nothing, what is no RAM, the end of the address space, and one byte that is RAM. */
    assert_int_equal(ASK(r, ATTACH, 1, 4, PICTURE, 0, 0, 0, 0xfee00000, 0, 4096, 0, 0xfffff000,
                         0xffffffff, 0xffffffff, 0, PICTURE, 0, 1, 0),
                     OK);
    assert_int_equal(ASK(r, ATTACH, 1, 1, PICTURE, 0, 4096, 0), UNSPEC);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, SCANOUT, 0, 0, 64, 32, 0, 1), OK);
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(ASK(r, DETACH, 1, 0), OK);
    assert_int_equal(transfer(r, 0, 0, 1, 1), UNSPEC);
}

static void memory_is_bounded(void **state)
{
    struct vrig *r = *state;
    unsigned n = 0;
    assert_int_equal(ASK(r, GET_EDID, 0, 0), UNSPEC);
    while (ASK(r, CREATE, n + 1, BGRX, 128, 128) == OK) { /* 64 KiB each, of 1 MiB */
        assert_true(++n < 100);
    }
    assert_int_equal(n, 15);
    for (unsigned i = 1; i <= n; i++) {
        assert_int_equal(ASK(r, UNREF, i, 0), OK);
    }
    for (n = 0; ASK(r, CREATE, n + 1, BGRX, 1, 1) == OK; n++) { /* small ones cost something */
        assert_true(n < 10000);
    }
    assert_int_equal(load_le32(r->ram + ANSWER), NO_MEMORY);
    vrig_start(r, 0, 2);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 500, 500), OK);
    for (n = 0; n < 50; n++) { /* backing comes and goes */
        assert_int_equal(ASK(r, ATTACH, 1, 1, PICTURE, 0, 4096, 0), OK);
        assert_int_equal(ASK(r, DETACH, 1, 0), OK);
    }
    assert_int_equal(ASK(r, UNREF, 1, 0), OK);
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 500, 500), OK);
}

/* More than a kick moves: the loop's thread goes on with it. */
static void work_is_spread(void **state)
{
    struct vrig *r = *state;
    uint8_t *ring = r->ram + VRIG_RINGS, *at = r->ram + VRIG_DATA + 0x6000;
    assert_int_equal(ASK(r, CREATE, 1, BGRX, 2048, 2048), OK); /* 16 MiB */
    assert_int_equal(ASK(r, ATTACH, 1, 1, 0, 0, VRIG_RAM, 0), OK);
    memset(at, 0, 56);
    store_le32(at, TRANSFER);
    store_le32(at + 32, 2048);
    store_le32(at + 36, 2048);
    store_le32(at + 48, 1);
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = r->idx[0]++ % VRIG_SIZE;
        store_le64(ring + 16 * n, VRIG_DATA + 0x6000);
        store_le32(ring + 16 * n + 8, 56);
        store_le16(ring + 16 * n + 12, 0);
        store_le16(ring + 0x204 + 2 * n, (uint16_t)n);
    }
    store_le16(ring + 0x202, r->idx[0]);
    vrig_reg(r, 0x50, 0);
    assert_int_equal(vrig_used(r, 0), 0);
    assert_int_equal(vrig_used(r, 0), -1);
    clock_advance(r->m->clock, 1500000);
    assert_int_equal(vrig_used(r, 0), 0);
    assert_int_equal(vrig_used(r, 0), -1);
    clock_advance(r->m->clock, 1500000);
    assert_int_equal(vrig_used(r, 0), 0);
    vrig_reg(r, 0x50, 0);
}

/* A vcpu has the lock, as with a driver that never rests. */
static void a_busy_device_does_not_hold_up_the_loop(void **state)
{
    struct vrig *r = *state;
    pthread_mutex_t *lock = &r->t->bus.vdev->lock;
    store_le32(r->ram + PICTURE, 0x112233);
    show_one(r, BGRX);
    assert_int_equal(pixel(r, 0, 0), 0);
    assert_int_equal(transfer(r, 0, 0, 64, 32), OK);
    assert_int_equal(ASK(r, FLUSH, 0, 0, 64, 32, 1, 0), OK);
    pthread_mutex_lock(lock);
    assert_int_equal(pixel(r, 0, 0), 0);
    pthread_mutex_unlock(lock);
    assert_int_equal(pixel(r, 0, 0), 0x112233);
}

static void bad_options(void **state)
{
    struct err err;
    static const char *const bad[] = {"max_outputs=2", "max_outputs=0", "xres=0", "xres=4096",
                                      "yres=63"};
    struct vrig *r = vrig_new();
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(vrig_add(r, &virtio_gpu_type, bad[i], &err));
    }
    vrig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(display_info_and_edid, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(fences_come_back, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(picture_reaches_the_screen, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(part_of_a_resource_is_shown, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(formats, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(screen_goes_dark, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(cursor_over_the_picture, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(the_driver_is_told_of_a_size, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(bad_requests, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(bad_backings, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(memory_is_bounded, rig_up_small, rig_down),
        cmocka_unit_test_setup_teardown(work_is_spread, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(a_busy_device_does_not_hold_up_the_loop, rig_up, rig_down),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
