/* Coroutines: order, locks, other threads, descriptors. */
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/unit_test.h"
#include "loop/co.h"
#include "loop/loop.h"

struct fixture {
    struct loop *loop;
    char log[64];
    unsigned n, done;
    struct co_lock lock;
    int fds[2];
};

static void say(struct fixture *f, char c)
{
    f->log[f->n++] = c;
}

static void first(void *opaque)
{
    struct fixture *f = opaque;
    say(f, 'a');
    co_yield ();
    say(f, 'c');
    f->done++;
}

static void second(void *opaque)
{
    struct fixture *f = opaque;
    say(f, 'b');
    co_yield ();
    say(f, 'd');
    f->done++;
}

static void run_until(struct fixture *f, unsigned done)
{
    while (f->done < done) {
        loop_step(f->loop, true);
    }
}

static void test_order(void **state)
{
    struct err err;
    struct fixture f = {.loop = loop_new(&err)};
    co_start(f.loop, first, &f);
    co_start(f.loop, second, &f);
    run_until(&f, 2);
    assert_string_equal(f.log, "abcd");
    assert_null(co_self());
    loop_free(f.loop);
}

static void locker(void *opaque)
{
    struct fixture *f = opaque;
    co_lock(&f->lock);
    say(f, '(');
    co_yield ();
    say(f, ')');
    co_unlock(&f->lock);
    f->done++;
}

static void test_lock(void **state)
{
    struct err err;
    struct fixture f = {.loop = loop_new(&err)};
    for (int i = 0; i < 3; i++) {
        co_start(f.loop, locker, &f);
    }
    run_until(&f, 3);
    assert_string_equal(f.log, "()()()");
    assert_false(f.lock.held);
    loop_free(f.loop);
}

static int slow(void *arg)
{
    usleep(1000);
    return *(int *)arg * 2;
}

static void offloader(void *opaque)
{
    struct fixture *f = opaque;
    int n = 21;
    assert_int_equal(co_offload(slow, &n), 42);
    f->done++;
}

static void computer(void *opaque)
{
    struct fixture *f = opaque;
    int n = 4;
    assert_int_equal(co_compute(slow, &n), 8);
    f->done++;
}

static void test_offload(void **state)
{
    struct err err;
    struct fixture f = {.loop = loop_new(&err)};
    for (int i = 0; i < 200; i++) {
        co_start(f.loop, offloader, &f);
        co_start(f.loop, computer, &f);
    }
    run_until(&f, 400);
    loop_free(f.loop);
}

static void reader(void *opaque)
{
    struct fixture *f = opaque;
    assert_true(co_wait_fd(f->fds[0], LOOP_IN) & LOOP_IN);
    assert_int_equal(read(f->fds[0], f->log, 2), 2);
    f->done++;
}

static void sleeper(void *opaque)
{
    struct fixture *f = opaque;
    co_sleep_ns(2000000);
    assert_int_equal(write(f->fds[1], "ok", 2), 2);
    f->done++;
}

static void test_fd(void **state)
{
    struct err err;
    struct fixture f = {.loop = loop_new(&err)};
    assert_int_equal(pipe(f.fds), 0);
    co_start(f.loop, reader, &f);
    co_run(f.loop, sleeper, &f);
    run_until(&f, 2);
    assert_string_equal(f.log, "ok");
    close(f.fds[0]);
    close(f.fds[1]);
    loop_free(f.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_offload),
        cmocka_unit_test(test_fd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
