/* The console device: ports, control messages, both directions, and what is not there. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unit_test.h"
#include "chardev/chardev.h"
#include "dev/virtio/virtio_devices.h"
#include "dev/virtio/virtio_test_rig.h"

enum {
    MULTIPORT = 2,
    EMERG = 4,
    CTRL_RX = 2,
    CTRL_TX = 3,
    PORT1_RX = 4,
    PORT1_TX = 5,
    MSG = VRIG_DATA,
    BUF = VRIG_DATA + 0x1000,
};

struct rig {
    struct vrig *v;
    struct chardev *ring, *sock;
    char path[64];
    int peer;
};

static struct chardev *add_chardev(struct vrig *v, const char *id, const char *args)
{
    struct keyval kv = {0};
    struct err err;
    assert_int_equal(keyval_parse(&kv, args, "backend", &err), 0);
    struct chardev *c = chardev_new(v->m->loop, &kv, &err);
    assert_non_null(c);
    keyval_free(&kv);
    machine_add_backend(v->m, "chardev", id, c, chardev_free);
    return c;
}

static int rig_up(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;
    char args[128];
    r->v = vrig_new();
    snprintf(r->path, sizeof(r->path), "/tmp/virtio-serial-test-%d", (int)getpid());
    snprintf(args, sizeof(args), "socket,id=s,path=%s,server=on,wait=off", r->path);
    r->ring = add_chardev(r->v, "ring", "ringbuf,id=ring,size=4096");
    r->sock = add_chardev(r->v, "sock", args);
    r->peer = -1;
    assert_non_null(vrig_add(r->v, &virtio_serial_type, "max_ports=4,id=vs", &err));
    assert_non_null(vrig_add(r->v, &virtserialport_type, "chardev=sock,name=org.test", &err));
    assert_non_null(vrig_add(r->v, &virtconsole_type, "chardev=ring,bus=vs.0", &err));
    *state = r;
    return 0;
}

static int rig_down(void **state)
{
    struct rig *r = *state;
    if (r->peer >= 0) {
        close(r->peer);
    }
    vrig_free(r->v);
    free(r);
    return 0;
}

static void turn(struct rig *r)
{
    for (unsigned i = 0; i < 10; i++) {
        loop_step(r->v->m->loop, false);
    }
}

static void connect_peer(struct rig *r)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, r->path);
    r->peer = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(r->peer, (struct sockaddr *)&a, sizeof(a)), 0);
    turn(r);
}

static void say(struct rig *r, uint32_t port, uint16_t event, uint16_t value)
{
    uint8_t *at = r->v->ram + MSG;
    store_le32(at, port);
    store_le16(at + 4, event);
    store_le16(at + 6, value);
    vrig_offer(r->v, CTRL_TX, MSG, 8, false);
    assert_int_equal(vrig_used(r->v, CTRL_TX), 0);
}

/* Room for control messages: each in a place of its own. */
static void offer_control(struct rig *r, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        vrig_offer(r->v, CTRL_RX, BUF + 0x100 * (r->v->idx[CTRL_RX] % VRIG_SIZE), 64, true);
    }
}

static void expect_control(struct rig *r, uint32_t port, uint16_t event, uint16_t value,
                           const char *text)
{
    const uint8_t *at = r->v->ram + BUF + 0x100 * (r->v->seen[CTRL_RX] % VRIG_SIZE);
    assert_int_equal(vrig_used(r->v, CTRL_RX), 8 + strlen(text));
    assert_int_equal(load_le32(at), port);
    assert_int_equal(load_le16(at + 4), event);
    assert_int_equal(load_le16(at + 6), value);
    assert_memory_equal(at + 8, text, strlen(text));
}

static void start(struct rig *r)
{
    vrig_start(r->v, MULTIPORT, 10);
}

static void ports_tell_of_themselves(void **state)
{
    struct rig *r = *state;
    start(r);
    assert_int_equal(vrig_read(r->v, 0x104), 4);
    say(r, 0, 0, 1); /* ready, but there is no room yet */
    assert_int_equal(vrig_used(r->v, CTRL_RX), -1);
    offer_control(r, 6);
    expect_control(r, 0, 1, 1, "");
    expect_control(r, 1, 1, 1, "");
    assert_int_equal(vrig_used(r->v, CTRL_RX), -1);
    say(r, 0, 3, 1);
    expect_control(r, 0, 4, 1, "");
    expect_control(r, 0, 6, 1, "");
    say(r, 1, 3, 1);
    expect_control(r, 1, 7, 1, "org.test");
    assert_int_equal(vrig_used(r->v, CTRL_RX), -1); /* nobody is at its other end */
    connect_peer(r);
    expect_control(r, 1, 6, 1, "");
    close(r->peer);
    r->peer = -1;
    turn(r);
    offer_control(r, 1);
    expect_control(r, 1, 6, 0, "");
}

static void hostile_control_messages(void **state)
{
    struct rig *r = *state;
    start(r);
    offer_control(r, 4);
    static const uint16_t events[] = {0, 1, 3, 4, 5, 6, 7, 8, 0xffff};
    for (unsigned i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        say(r, 2, events[i], 0); /* no such port here */
        say(r, 4, events[i], 0); /* nor anywhere */
        say(r, 0xffffffff, events[i], 0);
    }
    vrig_offer(r->v, CTRL_TX, MSG, 7, false);
    assert_int_equal(vrig_used(r->v, CTRL_TX), 0);
    assert_int_equal(vrig_used(r->v, CTRL_RX), -1);
    assert_int_equal(vrig_read(r->v, 0x70) & VIRTIO_STATUS_NEEDS_RESET, 0);
}

static void data_both_ways(void **state)
{
    struct rig *r = *state;
    uint8_t buf[8192];
    start(r);
    connect_peer(r);
    memcpy(r->v->ram + BUF, "to the host", 11);
    vrig_offer(r->v, PORT1_TX, BUF, 11, false);
    assert_int_equal(vrig_used(r->v, PORT1_TX), 0);
    assert_int_equal(recv(r->peer, buf, sizeof(buf), 0), 11);
    assert_memory_equal(buf, "to the host", 11);
    /* The other way waits until the guest opens the port, and has room. */
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(send(r->peer, buf, 3000, 0), 3000);
    vrig_offer(r->v, PORT1_RX, BUF, 100, true);
    turn(r);
    assert_int_equal(vrig_used(r->v, PORT1_RX), -1);
    say(r, 1, 6, 1);
    turn(r);
    assert_int_equal(vrig_used(r->v, PORT1_RX), 100);
    long sum = 100;
    for (unsigned i = 0; i < 40; i++) {
        vrig_offer(r->v, PORT1_RX, BUF, 100, true);
        turn(r);
        long n = vrig_used(r->v, PORT1_RX);
        sum += n > 0 ? n : 0;
    }
    assert_int_equal(sum, 3000);
}

static void console_and_emergency(void **state)
{
    struct rig *r = *state;
    uint8_t buf[64];
    vrig_reg(r->v, 0x108, 'E'); /* before any set-up */
    start(r);
    memcpy(r->v->ram + BUF, "log", 3);
    vrig_offer(r->v, 1, BUF, 3, false);
    assert_int_equal(chardev_ringbuf_read(r->ring, buf, sizeof(buf)), 4);
    assert_memory_equal(buf, "Elog", 4);
    vrig_reg(r->v, 0x104, 99);
    assert_int_equal(vrig_read(r->v, 0x104), 4);
    assert_int_equal(vrig_read(r->v, 0x108), 0);
    /* A driver that knows one port has it without any message. */
    vrig_start(r->v, 0, 2);
    vrig_offer(r->v, 1, BUF, 3, false);
    assert_int_equal(chardev_ringbuf_read(r->ring, buf, sizeof(buf)), 3);
    vrig_offer(r->v, 0, BUF, 16, true);
    turn(r);
}

static void numbers_and_names(void **state)
{
    struct rig *r = *state;
    struct err err;
    assert_null(vrig_add(r->v, &virtserialport_type, "nr=0", &err));
    assert_null(vrig_add(r->v, &virtserialport_type, "nr=1", &err));
    assert_null(vrig_add(r->v, &virtserialport_type, "nr=4", &err));
    assert_null(vrig_add(r->v, &virtserialport_type, "name=org.test", &err));
    assert_null(vrig_add(r->v, &virtserialport_type, "chardev=sock", &err));
    assert_non_null(vrig_add(r->v, &virtserialport_type, "nr=3", &err));
    assert_non_null(vrig_add(r->v, &virtconsole_type, "", &err));
    assert_null(vrig_add(r->v, &virtconsole_type, "", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ports_tell_of_themselves, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(hostile_control_messages, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(data_both_ways, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(console_and_emergency, rig_up, rig_down),
        cmocka_unit_test_setup_teardown(numbers_and_names, rig_up, rig_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
