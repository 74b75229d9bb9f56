/*
 * The controller's registers: NVM Express 1.4 (r1.4) clause 3.1, resets 7.3, shutdown 7.6.2.
 * Pages of 4 KiB, 16 I/O queues of each kind, 1024 entries, one namespace of 512-byte blocks.
 *
 * Does not do: scatter lists, controller memory buffers, namespace management, firmware update,
 * reservations, asynchronous events (requests for them wait), subsystem reset, keep alive.
 */
#include "dev/nvme/nvme.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "dev/nvme/nvme_internal.h"
#include "state/field.h"

enum {
    R_CAP = 0x00,
    R_CAP_HIGH = 0x04,
    R_VS = 0x08,
    R_INTMS = 0x0c,
    R_INTMC = 0x10,
    R_CC = 0x14,
    R_CSTS = 0x1c,
    R_AQA = 0x24,
    R_ASQ = 0x28,
    R_ACQ = 0x30,
    R_DOORBELLS = 0x1000,

    CC_EN = 1,
    CC_CSS_AMS_MPS = 0x3ff0, /* all 0: NVM command set, pages of 4 KiB, round robin */
    CC_SHN = 3 << 14,
    CC_WRITABLE = 0xfffff1,
    CSTS_RDY = 1,
    CSTS_CFS = 2,
    CSTS_SHST = 3 << 2,
    CSTS_SHST_AT_WORK = 1 << 2,
    CSTS_SHST_DONE = 2 << 2,
    CAP_MQES = NVME_QUEUE_ENTRIES - 1,
    CAP_CQR = 1 << 16,
    CAP_TO = 0x1e << 24, /* 15 s */
    CAP_CSS_HIGH = 1 << 5,
};

/* ---- Enable, reset, shutdown ---- */

static void nvme_enable(struct nvme *n)
{
    uint32_t sq = (n->aqa & 0xfff) + 1, cq = (n->aqa >> 16 & 0xfff) + 1;
    if (sq < 2 || cq < 2 || sq > 4096 || cq > 4096 || (n->cc & CC_CSS_AMS_MPS) || !n->asq ||
        !n->acq) {
        n->csts |= CSTS_CFS;
        return;
    }
    n->sq[0] = (struct nvme_sq){.on = true, .base = n->asq, .size = sq};
    n->cq[0].on = n->cq[0].interrupts = n->cq[0].phase = true;
    n->cq[0].base = n->acq;
    n->cq[0].size = cq;
    n->cq[0].users = 1;
    n->csts |= CSTS_RDY;
}

/* Nothing flies. */
static void nvme_finish_reset(struct nvme *n)
{
    n->resetting = false;
    n->csts = 0;
    n->intms = 0;
    nvme_queues_off(n);
    nvme_features_reset(n);
    if (n->cc & CC_EN) {
        nvme_enable(n);
    }
}

static void nvme_begin_reset(struct nvme *n)
{
    n->resetting = true;
    if (!n->flying) {
        nvme_finish_reset(n);
    }
}

void nvme_idle(struct nvme *n)
{
    if (n->resetting) {
        nvme_finish_reset(n);
    }
}

static void nvme_set_shutdown(struct nvme *n, uint32_t state)
{
    n->csts = (n->csts & ~(uint32_t)CSTS_SHST) | state;
}

static uint16_t shutdown_work(struct nvme_req *r)
{
    nvme_flush_work(r);
    AUTO_LOCK(&r->n->lock);
    nvme_set_shutdown(r->n, CSTS_SHST_DONE);
    return SC_SUCCESS;
}

/* What the volatile cache holds is written first (7.6.2). */
static void nvme_shut_down(struct nvme *n)
{
    struct nvme_req *r = n->resetting ? NULL : nvme_req_take(n, 0);
    if (!r || disk_readonly(&n->disk)) {
        nvme_set_shutdown(n, CSTS_SHST_DONE);
    }
    if (!r) {
        return;
    }
    nvme_req_internal(r);
    if (disk_readonly(&n->disk)) {
        nvme_complete(r, SC_SUCCESS);
    } else {
        nvme_set_shutdown(n, CSTS_SHST_AT_WORK);
        nvme_start(r, shutdown_work);
    }
}

static void nvme_write_cc(struct nvme *n, uint32_t val)
{
    uint32_t old = n->cc;
    n->cc = val & CC_WRITABLE;
    if ((old & CC_EN) && !(val & CC_EN)) {
        nvme_begin_reset(n);
    } else if (!(old & CC_EN) && (val & CC_EN) && !n->resetting) {
        nvme_enable(n);
    }
    if (!(val & CC_SHN)) {
        nvme_set_shutdown(n, 0);
    } else if (!(old & CC_SHN)) {
        nvme_shut_down(n);
    }
}

/* ---- Registers ---- */

static uint32_t nvme_read32(const struct nvme *n, uint32_t off)
{
    switch (off) {
    case R_CAP: return CAP_MQES | CAP_CQR | CAP_TO;
    case R_CAP_HIGH: return CAP_CSS_HIGH;
    case R_VS: return NVME_VERSION;
    case R_INTMS:
    case R_INTMC: return n->intms;
    case R_CC: return n->cc;
    case R_CSTS: return n->csts;
    case R_AQA: return n->aqa;
    case R_ASQ: return (uint32_t)n->asq;
    case R_ASQ + 4: return (uint32_t)(n->asq >> 32);
    case R_ACQ: return (uint32_t)n->acq;
    case R_ACQ + 4: return (uint32_t)(n->acq >> 32);
    default: return 0;
    }
}

static void put_half(uint64_t *to, uint32_t off, uint32_t val)
{
    *to = off & 4 ? (*to & 0xffffffff) | (uint64_t)val << 32
                  : (*to & ~0xffffffffull) | (val & ~(uint32_t)(NVME_PAGE - 1));
}

static void nvme_write32(struct nvme *n, uint32_t off, uint32_t val)
{
    switch (off) {
    case R_INTMS: n->intms |= val; break;
    case R_INTMC: n->intms &= ~val; break;
    case R_CC: nvme_write_cc(n, val); return;
    case R_AQA: n->aqa = val & 0x0fff0fff; return;
    case R_ASQ:
    case R_ASQ + 4: put_half(&n->asq, off, val); return;
    case R_ACQ:
    case R_ACQ + 4: put_half(&n->acq, off & 4 ? 4 : 0, val); return;
    default: return;
    }
    nvme_update_line(n);
}

static enum mem_result nvme_read(void *dev, uint64_t off, unsigned size, uint64_t *val)
{
    struct nvme *n = dev;
    AUTO_LOCK(&n->lock);
    *val = off < R_DOORBELLS ? nvme_read32(n, (uint32_t)off) : 0;
    return MEM_OK;
}

static enum mem_result nvme_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct nvme *n = dev;
    AUTO_LOCK(&n->lock);
    if (off < R_DOORBELLS) {
        nvme_write32(n, (uint32_t)off, (uint32_t)val);
    } else {
        nvme_doorbell(n, (uint32_t)off, (uint32_t)val);
    }
    return MEM_OK;
}

const struct mmio nvme_regs = {nvme_read, nvme_write, 4, 4};

/* ---- Life ---- */

void nvme_init(struct nvme *n, const struct nvme_wires *wires, void *opaque, const char *serial,
               unsigned max_queues)
{
    n->wires = wires;
    n->opaque = opaque;
    n->serial = serial;
    n->max_queues = max_queues;
    pthread_mutex_init(&n->lock, NULL);
    nvme_queues_off(n);
    nvme_features_reset(n);
}

void nvme_reset(struct nvme *n)
{
    pthread_mutex_lock(&n->lock);
    n->resetting = true; /* nothing is begun */
    n->cc = 0;
    while (n->flying) {
        pthread_mutex_unlock(&n->lock);
        disk_drain(&n->disk);
        pthread_mutex_lock(&n->lock);
    }
    nvme_finish_reset(n);
    n->quiet = false; /* a quiesced machine that is reset just goes on */
    n->aqa = 0;
    n->asq = n->acq = 0;
    pthread_mutex_unlock(&n->lock);
}

void nvme_quiesce(struct nvme *n)
{
    pthread_mutex_lock(&n->lock);
    n->quiet = true;
    pthread_mutex_unlock(&n->lock);
    disk_quiesce(&n->disk);
}

void nvme_resume(struct nvme *n)
{
    disk_resume(&n->disk);
    AUTO_LOCK(&n->lock);
    n->quiet = false;
    nvme_fetch(n);
}

void nvme_fini(struct nvme *n)
{
    nvme_queues_off(n);
    while (n->spares) {
        struct nvme_req *r = n->spares;
        n->spares = r->next;
        free(r);
    }
    pthread_mutex_destroy(&n->lock);
}

/* ---- State ---- */

static const struct field nvme_sq_list[] = {
    FIELD(struct nvme_sq, on, FIELD_GUEST),
    FIELD(struct nvme_sq, base, FIELD_GUEST),
    FIELD(struct nvme_sq, size, FIELD_GUEST, .max = 4096),
    FIELD(struct nvme_sq, head, FIELD_GUEST),
    FIELD(struct nvme_sq, tail, FIELD_GUEST),
    FIELD(struct nvme_sq, cq, FIELD_GUEST, .max = NVME_QUEUES - 1),
    FIELD(struct nvme_sq, flying, FIELD_HOST),
    FIELD(struct nvme_sq, deleter, FIELD_HOST),
};

FIELD_SET(nvme_sq_fields, "nvme-sq", struct nvme_sq, nvme_sq_list, 1);

static const struct field nvme_cq_list[] = {
    FIELD(struct nvme_cq, on, FIELD_GUEST),
    FIELD(struct nvme_cq, interrupts, FIELD_GUEST),
    FIELD(struct nvme_cq, phase, FIELD_GUEST),
    FIELD(struct nvme_cq, base, FIELD_GUEST),
    FIELD(struct nvme_cq, size, FIELD_GUEST, .max = 4096),
    FIELD(struct nvme_cq, head, FIELD_GUEST),
    FIELD(struct nvme_cq, tail, FIELD_GUEST),
    FIELD(struct nvme_cq, vector, FIELD_GUEST),
    FIELD(struct nvme_cq, users, FIELD_DERIVED),
    FIELD(struct nvme_cq, waiting, FIELD_HOST),
    FIELD(struct nvme_cq, waiting_end, FIELD_HOST),
};

FIELD_SET(nvme_cq_fields, "nvme-cq", struct nvme_cq, nvme_cq_list, 1);

static const struct field nvme_list[] = {
    FIELD(struct nvme, wires, FIELD_HOST),
    FIELD(struct nvme, opaque, FIELD_HOST),
    FIELD(struct nvme, serial, FIELD_HOST),
    FIELD(struct nvme, max_queues, FIELD_CONFIG),
    FIELD(struct nvme, disk, FIELD_HOST),
    FIELD(struct nvme, lock, FIELD_HOST),
    FIELD(struct nvme, intms, FIELD_GUEST),
    FIELD(struct nvme, cc, FIELD_GUEST),
    FIELD(struct nvme, csts, FIELD_GUEST),
    FIELD(struct nvme, aqa, FIELD_GUEST),
    FIELD(struct nvme, asq, FIELD_GUEST),
    FIELD(struct nvme, acq, FIELD_GUEST),
    FIELD(struct nvme, resetting, FIELD_HOST),
    FIELD(struct nvme, quiet, FIELD_HOST),
    FIELD(struct nvme, level, FIELD_GUEST),
    FIELD(struct nvme, fetching, FIELD_HOST),
    FIELD_ARRAY(struct nvme, sq, FIELD_GUEST, .sub = &nvme_sq_fields),
    FIELD_ARRAY(struct nvme, cq, FIELD_GUEST, .sub = &nvme_cq_fields),
    FIELD(struct nvme, next_sq, FIELD_GUEST, .max = NVME_QUEUES - 1),
    FIELD_ARRAY(struct nvme, feature, FIELD_GUEST),
    FIELD(struct nvme, interrupt_config, FIELD_GUEST),
    FIELD_ARRAY(struct nvme, aer, FIELD_GUEST),
    FIELD(struct nvme, aers, FIELD_GUEST, .max = NVME_AERS),
    FIELD(struct nvme, flying, FIELD_HOST),
    FIELD(struct nvme, requests, FIELD_HOST),
    FIELD(struct nvme, spares, FIELD_HOST),
    FIELD(struct nvme, read_units, FIELD_GUEST),
    FIELD(struct nvme, written_units, FIELD_GUEST),
    FIELD(struct nvme, reads, FIELD_GUEST),
    FIELD(struct nvme, writes, FIELD_GUEST),
};

static bool nvme_ring_ok(bool on, uint32_t size, uint32_t head, uint32_t tail)
{
    return !on || (size >= 2 && head < size && tail < size);
}

static int nvme_loaded(void *obj, struct err *err)
{
    struct nvme *n = obj;
    AUTO_LOCK(&n->lock);
    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        n->cq[i].users = 0;
    }
    for (unsigned i = 0; i < NVME_QUEUES; i++) {
        const struct nvme_sq *s = &n->sq[i];
        const struct nvme_cq *c = &n->cq[i];
        if (!nvme_ring_ok(s->on, s->size, s->head, s->tail) ||
            !nvme_ring_ok(c->on, c->size, c->head, c->tail) || (s->on && !n->cq[s->cq].on)) {
            return err_set(err, EINVAL, "state of nvme-controller: queue %u cannot be so", i);
        }
        n->cq[s->cq].users += s->on;
    }
    return 0;
}

FIELD_SET_SHARED(nvme_fields, "nvme-controller", struct nvme, nvme_list, 1, .loaded = nvme_loaded);
