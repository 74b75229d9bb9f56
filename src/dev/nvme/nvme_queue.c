/*
 * Queues: NVMe 1.4 4.1, 4.6, 7.5. Submission queues are served in turn, one command each. While
 * all requests are in use, or the completion queue of a request is full, commands wait in guest
 * memory or the request waits here; nothing is made by the guest's numbers.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "dev/nvme/nvme_internal.h"

enum { DOORBELLS = 0x1000, RDY = 1, CFS = 2 };

/* ---- Interrupts ---- */

/* Without MSI-X: one line, high while a queue that may interrupt holds completions (7.5.1). */
void nvme_update_line(struct nvme *n)
{
    bool level = false;
    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        const struct nvme_cq *c = &n->cq[i];
        bool masked = c->vector < 32 && n->intms >> c->vector & 1;
        level |= c->on && c->interrupts && c->head != c->tail && !masked;
    }
    level = level && !n->wires->msix(n->opaque);
    if (level != n->level) {
        n->level = level;
        n->wires->set_line(n->opaque, level);
    }
}

static void cq_interrupt(struct nvme *n, const struct nvme_cq *c)
{
    if (c->interrupts && n->wires->msix(n->opaque)) {
        n->wires->notify(n->opaque, c->vector);
    }
    nvme_update_line(n);
}

/* ---- Requests ---- */

struct nvme_req *nvme_req_take(struct nvme *n, unsigned sq)
{
    unsigned room = NVME_MAX_REQUESTS - (sq ? NVME_FOR_ADMIN : 0);
    struct nvme_req *r = n->spares;
    if (n->requests >= room) {
        return NULL;
    }
    if (r) {
        n->spares = r->next;
    } else {
        r = alloc_zero(sizeof(*r));
        r->n = n;
    }
    r->next = NULL;
    r->sq = sq;
    r->result = 0;
    r->internal = false;
    r->work = NULL;
    r->spans = 0;
    n->requests++;
    n->sq[sq].flying++;
    return r;
}

void nvme_req_internal(struct nvme_req *r)
{
    r->internal = true;
    r->n->sq[r->sq].flying--;
}

static void req_free(struct nvme_req *r)
{
    struct nvme *n = r->n;
    r->next = n->spares;
    n->spares = r;
    n->requests--;
}

/* ---- Completions ---- */

static bool cq_full(const struct nvme_cq *c)
{
    return (c->tail + 1) % c->size == c->head;
}

/* NVMe 1.4 4.6 */
static void cq_put(struct nvme *n, struct nvme_cq *c, const struct nvme_req *r)
{
    struct mem_map *mem = n->wires->dma(n->opaque);
    uint8_t e[NVME_CQE] = {0};
    store_le32(e, r->result);
    store_le16(e + 8, (uint16_t)n->sq[r->sq].head);
    store_le16(e + 10, (uint16_t)r->sq);
    memcpy(e + 12, r->cmd + 2, 2);
    store_le16(e + 14, (uint16_t)(r->status << 1 | c->phase));
    /* The half with the phase last: the driver looks at that first. */
    gpa_t at = c->base + (uint64_t)c->tail * NVME_CQE;
    bool ok = mem && gmem_write(mem, at, e, 8);
    atomic_thread_fence(memory_order_release);
    if (!ok || !gmem_write(mem, at + 8, e + 8, 8)) {
        n->csts |= CFS;
    }
    c->tail = (c->tail + 1) % c->size;
    c->phase = c->tail ? c->phase : !c->phase;
}

static void sq_ended_one(struct nvme *n, struct nvme_sq *s)
{
    if (!--s->flying && s->deleter) {
        struct nvme_req *d = s->deleter;
        n->cq[s->cq].users--;
        *s = (struct nvme_sq){0};
        nvme_complete(d, SC_SUCCESS);
    }
}

void nvme_complete(struct nvme_req *r, uint16_t status)
{
    struct nvme *n = r->n;
    struct nvme_sq *s = &n->sq[r->sq];
    struct nvme_cq *c = &n->cq[s->cq];
    r->status = status;
    if (r->internal) {
        req_free(r);
    } else if (n->resetting || !s->on || !c->on) {
        req_free(r);
        sq_ended_one(n, s);
    } else if (c->waiting || cq_full(c)) {
        r->next = NULL;
        *c->waiting_end = r;
        c->waiting_end = &r->next;
    } else {
        cq_put(n, c, r);
        cq_interrupt(n, c);
        req_free(r);
        sq_ended_one(n, s);
    }
}

static void cq_head_moved(struct nvme *n, struct nvme_cq *c)
{
    bool any = false;
    while (c->waiting && !cq_full(c)) {
        struct nvme_req *r = c->waiting;
        c->waiting = r->next;
        c->waiting_end = c->waiting ? c->waiting_end : &c->waiting;
        cq_put(n, c, r);
        any = true;
        req_free(r);
        sq_ended_one(n, &n->sq[r->sq]);
    }
    if (any) {
        cq_interrupt(n, c);
    } else {
        nvme_update_line(n);
    }
}

/* ---- Jobs ---- */

static void req_job(void *opaque)
{
    struct nvme_req *r = opaque;
    struct nvme *n = r->n;
    uint16_t status = r->work(r);
    AUTO_LOCK(&n->lock);
    n->flying--;
    nvme_complete(r, status);
    if (!n->flying) {
        nvme_idle(n);
    }
    nvme_fetch(n);
}

void nvme_start(struct nvme_req *r, uint16_t (*work)(struct nvme_req *))
{
    r->work = work;
    r->n->flying++;
    disk_start(&r->n->disk, &r->job, req_job, r);
}

/* ---- Fetching ---- */

static bool sq_has(const struct nvme_sq *s)
{
    return s->on && !s->deleter && s->head != s->tail;
}

static bool fetch_one(struct nvme *n, unsigned q)
{
    struct nvme_sq *s = &n->sq[q];
    struct mem_map *mem = n->wires->dma(n->opaque);
    struct nvme_req *r = mem ? nvme_req_take(n, q) : NULL;
    if (!r) {
        return false;
    }
    if (!gmem_read(mem, s->base + (uint64_t)s->head * NVME_SQE, r->cmd, NVME_SQE)) {
        n->csts |= CFS;
        nvme_req_internal(r);
        nvme_complete(r, SC_SUCCESS);
        return false;
    }
    s->head = (s->head + 1) % s->size;
    uint16_t status = q ? nvme_io(r) : nvme_admin(r);
    if (status != SC_PENDING) {
        nvme_complete(r, status);
    }
    return true;
}

void nvme_fetch(struct nvme *n)
{
    unsigned idle = 0; /* queues in a row that had nothing; tails do not move under the lock */
    if (n->fetching) {
        return;
    }
    n->fetching = true;
    while (idle < NVME_QUEUES) {
        unsigned q = n->next_sq;
        bool may = (n->csts & (RDY | CFS)) == RDY && !n->resetting && !n->quiet;
        n->next_sq = (q + 1) % NVME_QUEUES;
        idle = may && sq_has(&n->sq[q]) && fetch_one(n, q) ? 0 : idle + 1;
    }
    n->fetching = false;
}

/* NVMe 1.4 3.1.24, 3.1.25 */
void nvme_doorbell(struct nvme *n, uint32_t off, uint32_t val)
{
    unsigned q = (off - DOORBELLS) / 8;
    if (q >= NVME_QUEUES || !(n->csts & RDY) || n->resetting) {
        return;
    }
    if (off & 4) {
        struct nvme_cq *c = &n->cq[q];
        if (c->on && val < c->size) {
            c->head = val;
            cq_head_moved(n, c);
        }
    } else if (n->sq[q].on && val < n->sq[q].size) {
        n->sq[q].tail = val;
    }
    nvme_fetch(n);
}

void nvme_queues_off(struct nvme *n)
{
    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        struct nvme_cq *c = &n->cq[i];
        while (c->waiting) {
            struct nvme_req *r = c->waiting;
            c->waiting = r->next;
            req_free(r);
        }
        if (n->sq[i].deleter) {
            req_free(n->sq[i].deleter);
        }
        n->sq[i] = (struct nvme_sq){0};
        *c = (struct nvme_cq){0};
        c->waiting_end = &c->waiting;
    }
    n->aers = 0;
    n->next_sq = 0;
    nvme_update_line(n);
}
