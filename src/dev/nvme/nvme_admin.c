/* Admin commands: NVMe 1.4 clause 5. Queues, features, aborts; requests for asynchronous events
 * are counted and wait for ever. */
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/nvme/nvme_internal.h"

enum {
    CDW10 = 40,
    CDW11 = 44,
    PRP1 = 24,
    CC_SIZES = 0xff << 16,
    CC_SIZES_WANTED = 0x46 << 16, /* entries of 64 and of 16 bytes */
    FEATURE_MAX = NVME_FEATURES - 1,
    F_TEMPERATURE = 4,
    F_CACHE = 6,
    F_QUEUES = 7,
    F_VECTOR = 9,
    VECTORS = NVME_QUEUES,
};

static uint32_t cdw(const struct nvme_req *r, unsigned at)
{
    return load_le32(r->cmd + at);
}

/* ---- Queues: 5.3 to 5.6 ---- */

static uint16_t queue_check(const struct nvme_req *r, unsigned id, bool used)
{
    const struct nvme *n = r->n;
    uint32_t size = (cdw(r, CDW10) >> 16) + 1;
    gpa_t base = load_le64(r->cmd + PRP1);
    if (!id || id > n->max_queues || used) {
        return SC_BAD_QID;
    }
    if (size < 2 || size > NVME_QUEUE_ENTRIES) {
        return SC_BAD_QSIZE;
    }
    if (base & (NVME_PAGE - 1)) {
        return SC_PRP_OFFSET;
    }
    bool contiguous = cdw(r, CDW11) & 1;
    return contiguous && (n->cc & CC_SIZES) == CC_SIZES_WANTED ? SC_SUCCESS : SC_INVALID_FIELD;
}

static uint16_t create_cq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    unsigned id = cdw(r, CDW10) & 0xffff, vector = cdw(r, CDW11) >> 16;
    uint16_t status = queue_check(r, id, id < NVME_QUEUES && n->cq[id].on);
    if (status) {
        return status;
    }
    if (vector >= VECTORS) {
        return SC_BAD_VECTOR;
    }
    struct nvme_cq *c = &n->cq[id];
    *c = (struct nvme_cq){.on = true,
                          .phase = true,
                          .interrupts = cdw(r, CDW11) & 2,
                          .base = load_le64(r->cmd + PRP1),
                          .size = (cdw(r, CDW10) >> 16) + 1,
                          .vector = (uint16_t)vector};
    c->waiting_end = &c->waiting;
    return SC_SUCCESS;
}

static uint16_t create_sq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    unsigned id = cdw(r, CDW10) & 0xffff, cq = cdw(r, CDW11) >> 16;
    uint16_t status = queue_check(r, id, id < NVME_QUEUES && n->sq[id].on);
    if (status) {
        return status;
    }
    if (!cq || cq >= NVME_QUEUES || !n->cq[cq].on) {
        return SC_BAD_CQ;
    }
    n->sq[id] = (struct nvme_sq){
        .on = true, .base = load_le64(r->cmd + PRP1), .size = (cdw(r, CDW10) >> 16) + 1, .cq = cq};
    n->cq[cq].users++;
    return SC_SUCCESS;
}

/* Commands of it that were fetched are completed first. */
static uint16_t delete_sq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    unsigned id = cdw(r, CDW10) & 0xffff;
    if (!id || id >= NVME_QUEUES || !n->sq[id].on || n->sq[id].deleter) {
        return SC_BAD_QID;
    }
    if (n->sq[id].flying) {
        n->sq[id].deleter = r;
        return SC_PENDING;
    }
    n->cq[n->sq[id].cq].users--;
    n->sq[id] = (struct nvme_sq){0};
    return SC_SUCCESS;
}

static uint16_t delete_cq(struct nvme_req *r)
{
    struct nvme *n = r->n;
    unsigned id = cdw(r, CDW10) & 0xffff;
    if (!id || id >= NVME_QUEUES || !n->cq[id].on) {
        return SC_BAD_QID;
    }
    if (n->cq[id].users) {
        return SC_QUEUE_DELETION;
    }
    n->cq[id].on = false;
    nvme_update_line(n);
    return SC_SUCCESS;
}

/* ---- Abort, events ---- */

/* Best effort says the specification (5.1); what flies is not called back. */
static uint16_t abort_cmd(struct nvme_req *r)
{
    r->result = 1;
    return SC_SUCCESS;
}

static uint16_t async_event(struct nvme_req *r)
{
    struct nvme *n = r->n;
    if (n->aers == NVME_AERS) {
        return SC_AER_LIMIT;
    }
    n->aer[n->aers++] = load_le16(r->cmd + 2);
    nvme_req_internal(r);
    return SC_SUCCESS;
}

/* ---- Features: 5.21.1 ---- */

static const struct {
    bool changeable;
    uint32_t preset, mask;
} features[NVME_FEATURES] = {
    [1] = {true, 0, 0xffffff07}, /* arbitration */
    [2] = {true, 0, 0},          /* power management: one state */
    [F_TEMPERATURE] = {true, 0x157, ~0u},
    [5] = {true, 0, 0xffff}, /* error recovery */
    [F_CACHE] = {true, 1, 1},
    [F_QUEUES] = {true, 0, 0},
    [8] = {true, 0, 0xffff}, /* interrupt coalescing */
    [F_VECTOR] = {true, 0, 0},
    [10] = {true, 0, 1},      /* write atomicity */
    [11] = {true, 0, 0xffff}, /* events */
};

void nvme_features_reset(struct nvme *n)
{
    for (unsigned i = 0; i < NVME_FEATURES; i++) {
        n->feature[i] = features[i].preset;
    }
    n->interrupt_config = 0;
}

static uint32_t queue_counts(const struct nvme *n)
{
    return (n->max_queues - 1) | (n->max_queues - 1) << 16;
}

static uint32_t feature_value(const struct nvme_req *r, unsigned id, bool preset)
{
    const struct nvme *n = r->n;
    uint32_t vector = cdw(r, CDW11) & 0xffff;
    switch (id) {
    case F_QUEUES: return queue_counts(n);
    case F_VECTOR:
        return vector | (preset || vector > 31 ? 0 : (n->interrupt_config >> vector & 1) << 16);
    case F_TEMPERATURE:
        if (cdw(r, CDW11) >> 16 & 0x3f) { /* another sensor, or the lower threshold */
            return 0;
        }
    /* fall through */
    default: return preset ? features[id].preset : n->feature[id];
    }
}

static uint16_t get_features(struct nvme_req *r)
{
    uint32_t id = cdw(r, CDW10) & 0xff, select = cdw(r, CDW10) >> 8 & 7;
    if (id > FEATURE_MAX || !features[id].changeable || select > 3) {
        return SC_INVALID_FIELD;
    }
    if (id == F_VECTOR && (cdw(r, CDW11) & 0xffff) >= VECTORS) {
        return SC_INVALID_FIELD;
    }
    r->result = select == 3 ? 4 : feature_value(r, id, select != 0); /* 4: changeable */
    return SC_SUCCESS;
}

static uint16_t set_features(struct nvme_req *r)
{
    struct nvme *n = r->n;
    uint32_t id = cdw(r, CDW10) & 0xff, val = cdw(r, CDW11), vector = val & 0xffff;
    if (cdw(r, CDW10) >> 31) {
        return SC_NOT_SAVEABLE;
    }
    if (id > FEATURE_MAX || !features[id].changeable) {
        return SC_INVALID_FIELD;
    }
    if (id == F_QUEUES) {
        if (vector == 0xffff || val >> 16 == 0xffff) {
            return SC_INVALID_FIELD;
        }
        r->result = queue_counts(n);
    } else if (id == F_VECTOR) {
        if (vector >= VECTORS) {
            return SC_INVALID_FIELD;
        }
        n->interrupt_config = (n->interrupt_config & ~(1u << vector)) | (val >> 16 & 1) << vector;
    } else if (id != F_TEMPERATURE || !(val >> 16 & 0x3f)) {
        n->feature[id] = val & features[id].mask;
    }
    return SC_SUCCESS;
}

/* ---- All ---- */

static const struct {
    uint8_t code;
    uint16_t (*fn)(struct nvme_req *);
} commands[] = {
    {0x00, delete_sq},    {0x01, create_sq},     {0x02, nvme_get_log}, {0x04, delete_cq},
    {0x05, create_cq},    {0x06, nvme_identify}, {0x08, abort_cmd},    {0x09, set_features},
    {0x0a, get_features}, {0x0c, async_event},
};

uint16_t nvme_admin(struct nvme_req *r)
{
    if (r->cmd[1] & 0xc3) { /* fused, or a scatter list */
        return SC_INVALID_FIELD;
    }
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].code == r->cmd[0]) {
            return commands[i].fn(r);
        }
    }
    return SC_INVALID_OPCODE;
}
