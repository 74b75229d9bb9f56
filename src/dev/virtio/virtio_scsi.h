/* Between the files of the SCSI host adapter. */
#ifndef DEV_VIRTIO_VIRTIO_SCSI_H
#define DEV_VIRTIO_VIRTIO_SCSI_H

#include "dev/scsi/scsi_bus.h"
#include "dev/virtio/virtio.h"

enum {
    VSCSI_CONTROL = 0,
    VSCSI_EVENT = 1,
    VSCSI_FIRST_REQUEST = 2,
    VSCSI_MAX_FLYING = 64, /* requests at a time */
    VSCSI_MAX_SENSE = 252,
    /* VIRTIO 1.2 5.6.6.1, 5.6.6.2 */
    VSCSI_S_OK = 0,
    VSCSI_S_OVERRUN = 1,
    VSCSI_S_ABORTED = 2,
    VSCSI_S_BAD_TARGET = 3,
    VSCSI_S_RESET = 4,
    VSCSI_S_FAILURE = 9,
    VSCSI_S_SUCCEEDED = 10,
    VSCSI_S_REJECTED = 11,
    VSCSI_S_INCORRECT_LUN = 12,
};

struct vscsi;

struct vscsi_req {
    struct vscsi *s;
    struct vq *vq;
    struct vscsi_req *next, *prev; /* free, or flying */
    struct scsi_dev *dev;
    struct disk_job job;
    struct scsi_cmd cmd;
    uint64_t tag;
    struct scsi_addr at;
    int result;        /* of the job */
    uint8_t given_up;  /* the response of those that were aborted; 0: none */
    uint32_t out_head; /* where data begins in elem.out and elem.in */
    uint32_t in_head;
    struct vq_elem elem;
    uint8_t buf[SCSI_BUF];
};

/* A task management function that waits for requests to end. */
struct vscsi_tmf {
    bool busy;
    unsigned waits; /* requests with given_up set that fly */
    uint8_t function;
    struct scsi_addr at;
    struct vq_elem elem;
};

struct vscsi {
    struct dev dev;
    struct virtio v;
    struct scsi_bus bus;
    uint32_t want_queues, max_sectors, cmd_per_lun; /* options */
    uint32_t sense_size, cdb_size;                  /* by v.lock, as all below */
    struct vscsi_req *spares;                       /* made when first needed */
    struct vscsi_req *flying;
    unsigned flying_count;
    bool quiet, posted; /* nothing new is begun; vscsi_run_later() will come */
    struct vscsi_tmf tmf;
    pthread_cond_t idle;
};

/* Lock held for all of them. */
void vscsi_take_all(struct vscsi *s);
void vscsi_take_control(struct vscsi *s); /* virtio_scsi_tmf.c */
void vscsi_tmf_ended(struct vscsi *s, const struct vscsi_req *r);
/* lun[] as requests have it; false: no such target. */
bool vscsi_parse_lun(const struct vscsi *s, const uint8_t *lun, struct scsi_addr *at);

#endif
