/*
 * The event loop: file descriptors, work posted from other threads, a clock's timers. All
 * handlers of one loop run on the one thread inside loop_run(). Handlers are edge-free: they
 * are called again while the descriptor stays ready.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct err;
struct loop;

enum loop_events { LOOP_IN = 1, LOOP_OUT = 2, LOOP_HUP = 4 /* always reported */ };

struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);

typedef void loop_fd_fn(void *opaque, int fd, unsigned events);
/* Adds a descriptor or changes what it waits for (0: only hang-up and errors). Any thread. */
int loop_watch(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn, void *opaque);
void loop_unwatch(struct loop *loop, int fd);

/* Runs fn(opaque) once on the loop's thread. Any thread. */
void loop_post(struct loop *loop, void (*fn)(void *), void *opaque);

/* Also runs this host clock's timers. */
int loop_add_clock(struct loop *loop, struct clock *clock);

/* Until loop_stop(), which any thread and any signal handler may call. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* One turn: what is ready; with `wait` it sleeps until there was something. Not from handlers. */
void loop_step(struct loop *loop, bool wait);

/* Called in each turn before it sleeps: hands in and collects work in batches; true: there was
 * some, do not sleep. The loop's thread. */
void loop_add_poll(struct loop *loop, bool (*fn)(void *), void *opaque);
void loop_remove_poll(struct loop *loop, void *opaque);

/* For the loop's thread, which has little to do at a time, but at once: asks the host's scheduler
 * for short slices. Threads that it makes from then on inherit that. */
void loop_prompt(void);

#endif
