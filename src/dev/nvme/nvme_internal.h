/* Between the files of this folder. The controller's lock is held for all functions, but those of
 * jobs. */
#ifndef DEV_NVME_NVME_INTERNAL_H
#define DEV_NVME_NVME_INTERNAL_H

#include <sys/uio.h>

#include "dev/nvme/nvme.h"

enum {
    NVME_PAGE = 4096,
    NVME_MDTS = 7, /* pages of a command: 1 << 7 */
    NVME_MAX_BYTES = NVME_PAGE << NVME_MDTS,
    NVME_MAX_SPANS = (1 << NVME_MDTS) + 1,
    NVME_LBA = 512,
    NVME_MAX_REQUESTS = 128,
    NVME_FOR_ADMIN = 8, /* of them */
    NVME_SQE = 64,
    NVME_CQE = 16,
    NVME_VERSION = 0x00010400,
    NVME_VENDOR = 0x1b36,

    /* Status field: status code, its type from bit 8, Do Not Retry. NVMe 1.4 4.6.1. */
    SC_DNR = 0x4000,
    SC_SUCCESS = 0,
    SC_INVALID_OPCODE = 0x4001,
    SC_INVALID_FIELD = 0x4002,
    SC_DATA_TRANSFER = 0x0004,
    SC_INTERNAL = 0x0006,
    SC_SQ_DELETED = 0x0008,
    SC_INVALID_NAMESPACE = 0x400b,
    SC_PRP_OFFSET = 0x4013,
    SC_PROTECTED = 0x4020,
    SC_LBA_RANGE = 0x4080,
    SC_CAPACITY = 0x0081,
    SC_BAD_CQ = 0x4100,
    SC_BAD_QID = 0x4101,
    SC_BAD_QSIZE = 0x4102,
    SC_AER_LIMIT = 0x4105,
    SC_BAD_VECTOR = 0x4108,
    SC_BAD_LOG = 0x4109,
    SC_QUEUE_DELETION = 0x410c,
    SC_NOT_SAVEABLE = 0x410d,
    SC_NOT_CHANGEABLE = 0x410e,
    SC_WRITE_FAULT = 0x0280,
    SC_READ_ERROR = 0x0281,
    SC_COMPARE = 0x4285,

    SC_PENDING = 0xffff, /* inside: a job, or the queue's end, completes it */
};

struct nvme_req {
    struct nvme *n;
    struct nvme_req *next; /* free, or waiting for room */
    unsigned sq;
    uint8_t cmd[NVME_SQE]; /* read from guest memory once */
    uint32_t result;
    uint16_t status;
    bool internal; /* the controller's own: no completion */
    struct disk_job job;
    uint16_t (*work)(struct nvme_req *r); /* in a coroutine; SC_* */
    uint64_t off, len;
    unsigned spans;
    struct iovec iov[NVME_MAX_SPANS];
    struct gmem_span span[NVME_MAX_SPANS];
    uint8_t small[NVME_PAGE]; /* lists of ranges; replies */
};

/* nvme_queue.c */
void nvme_fetch(struct nvme *n); /* takes and begins what there is */
void nvme_doorbell(struct nvme *n, uint32_t off, uint32_t val);
void nvme_complete(struct nvme_req *r, uint16_t status);
void nvme_start(struct nvme_req *r, uint16_t (*work)(struct nvme_req *)); /* a job */
struct nvme_req *nvme_req_take(struct nvme *n, unsigned sq);              /* NULL: none is free */
void nvme_req_internal(struct nvme_req *r); /* it gets no completion, and holds up no queue */
void nvme_update_line(struct nvme *n);
void nvme_queues_off(struct nvme *n); /* nothing flies */

/* nvme.c */
void nvme_idle(struct nvme *n); /* the last job has ended */

/* Commands: return the status, or SC_PENDING. */
uint16_t nvme_admin(struct nvme_req *r);
uint16_t nvme_io(struct nvme_req *r);
uint16_t nvme_identify(struct nvme_req *r);
uint16_t nvme_get_log(struct nvme_req *r);
void nvme_features_reset(struct nvme *n);
uint16_t nvme_flush_work(struct nvme_req *r);

/* nvme_prp.c: r->iov and r->span become the `len` bytes that the command's PRPs name. */
uint16_t nvme_map(struct nvme_req *r, uint64_t len);
void nvme_wrote(struct nvme_req *r);
/* A reply of at most a page, from r->small. */
uint16_t nvme_reply(struct nvme_req *r, uint32_t len);

#endif
