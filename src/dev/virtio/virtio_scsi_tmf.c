/*
 * The control queue of the SCSI host adapter: VIRTIO 1.2 section 5.6.6.2, task management as in
 * SAM-5 7. One function at a time. A command that works on its disk cannot be called back: a
 * function that aborts it waits until it has ended, and then says that it is aborted.
 *
 * Does not do: asynchronous notifications: subscriptions and queries get "no events".
 */
#include <string.h>

#include "base/endian.h"
#include "dev/virtio/virtio_scsi.h"

enum {
    T_TMF = 0,
    T_AN_QUERY = 1,
    T_AN_SUBSCRIBE = 2,
    TMF_BYTES = 24,
    AN_BYTES = 16,
    AN_RESPONSE = 5,
    ABORT_TASK = 0,
    ABORT_TASK_SET = 1,
    CLEAR_ACA = 2,
    CLEAR_TASK_SET = 3,
    I_T_NEXUS_RESET = 4,
    LOGICAL_UNIT_RESET = 5,
    QUERY_TASK = 6,
    QUERY_TASK_SET = 7,
    FUNCTIONS,
    OF_TARGET = 1, /* the LUN means nothing */
    BY_TAG = 2,
    QUERIES = 4,
    RESETS = 8,
    UNKNOWN = 16,
};

static const uint8_t functions[FUNCTIONS] = {
    [ABORT_TASK] = BY_TAG,
    [ABORT_TASK_SET] = 0,
    [CLEAR_ACA] = UNKNOWN,
    [CLEAR_TASK_SET] = 0,
    [I_T_NEXUS_RESET] = OF_TARGET | RESETS,
    [LOGICAL_UNIT_RESET] = RESETS,
    [QUERY_TASK] = BY_TAG | QUERIES,
    [QUERY_TASK_SET] = QUERIES,
};

static void tmf_push(struct vscsi *s, uint8_t response)
{
    struct vscsi_tmf *t = &s->tmf;
    struct vq *vq = &s->v.queue[VSCSI_CONTROL];
    t->busy = false;
    if (virtio_running(&s->v)) {
        iov_write(t->elem.in, t->elem.in_count, 0, &response, 1);
        vq_push(vq, &t->elem, 1);
        virtio_signal(&s->v, vq);
    }
}

static bool tmf_covers(const struct vscsi_tmf *t, const struct scsi_addr *at)
{
    return at->channel == t->at.channel && at->target == t->at.target &&
           ((functions[t->function] & OF_TARGET) || at->lun == t->at.lun);
}

static void tmf_finish(struct vscsi *s)
{
    struct vscsi_tmf *t = &s->tmf;
    for (struct scsi_dev *d = s->bus.first; d; d = d->next) {
        if ((functions[t->function] & RESETS) && tmf_covers(t, &d->at)) {
            scsi_lu_reset(&d->lu);
        }
    }
    tmf_push(s, VSCSI_S_OK);
}

void vscsi_tmf_ended(struct vscsi *s, const struct vscsi_req *r)
{
    if (s->tmf.busy && !--s->tmf.waits) {
        tmf_finish(s);
        vscsi_take_control(s);
    }
}

/* Requests that it is about; `set`: marks those that are not marked. */
static unsigned tmf_count(struct vscsi *s, uint64_t tag, uint8_t set)
{
    const struct vscsi_tmf *t = &s->tmf;
    unsigned n = 0;
    for (struct vscsi_req *r = s->flying; r; r = r->next) {
        bool hit = tmf_covers(t, &r->at) && (!(functions[t->function] & BY_TAG) || r->tag == tag);
        if (hit && !r->given_up) {
            r->given_up = set;
            n++;
        }
    }
    return n;
}

static void tmf_begin(struct vscsi *s, const uint8_t *head)
{
    struct vscsi_tmf *t = &s->tmf;
    uint32_t function = load_le32(head + 4);
    uint64_t tag = load_le64(head + 16);
    if (function >= FUNCTIONS || (functions[function] & UNKNOWN)) {
        tmf_push(s, VSCSI_S_REJECTED);
        return;
    }
    t->function = (uint8_t)function;
    if (!vscsi_parse_lun(s, head + 8, &t->at)) {
        tmf_push(s, VSCSI_S_BAD_TARGET);
    } else if (!(functions[function] & OF_TARGET) && !scsi_bus_find(&s->bus, &t->at)) {
        tmf_push(s, VSCSI_S_INCORRECT_LUN);
    } else if (functions[function] & QUERIES) {
        tmf_push(s, tmf_count(s, tag, 0) ? VSCSI_S_SUCCEEDED : VSCSI_S_OK);
    } else {
        t->waits =
            tmf_count(s, tag, functions[function] & RESETS ? VSCSI_S_RESET : VSCSI_S_ABORTED);
        if (!t->waits) {
            tmf_finish(s);
        }
    }
}

static void an_answer(struct vscsi *s, const uint8_t *lun)
{
    struct vscsi_tmf *t = &s->tmf;
    struct vq *vq = &s->v.queue[VSCSI_CONTROL];
    uint8_t reply[AN_RESPONSE] = {0}; /* event_actual: none */
    struct scsi_addr at;
    reply[4] = vscsi_parse_lun(s, lun, &at) ? VSCSI_S_OK : VSCSI_S_BAD_TARGET;
    t->busy = false;
    uint64_t n = iov_write(t->elem.in, t->elem.in_count, 0, reply, sizeof(reply));
    vq_push(vq, &t->elem, (uint32_t)n);
    virtio_signal(&s->v, vq);
}

static bool control_begin(struct vscsi *s)
{
    const struct vq_elem *e = &s->tmf.elem;
    uint8_t head[TMF_BYTES] = {0};
    uint64_t n = iov_read(e->out, e->out_count, 0, head, sizeof(head));
    uint32_t type = load_le32(head);
    if (n < AN_BYTES || !e->in_len || (type == T_TMF && n < TMF_BYTES)) {
        return false;
    }
    if (type == T_TMF) {
        tmf_begin(s, head);
    } else if (type == T_AN_QUERY || type == T_AN_SUBSCRIBE) {
        an_answer(s, head + 4);
    } else {
        tmf_push(s, VSCSI_S_FAILURE);
    }
    return true;
}

void vscsi_take_control(struct vscsi *s)
{
    struct vq *vq = &s->v.queue[VSCSI_CONTROL];
    for (unsigned n = 0; n < VQ_MAX_SIZE && virtio_running(&s->v) && !s->quiet && !s->tmf.busy &&
                         vq_pop(vq, &s->tmf.elem);
         n++) {
        s->tmf.busy = true;
        s->tmf.waits = 0;
        if (!control_begin(s)) {
            s->tmf.busy = false;
            vq->broken = true;
        }
    }
    virtio_check_broken(&s->v, vq);
}
