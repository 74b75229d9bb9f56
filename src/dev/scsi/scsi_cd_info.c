/*
 * What a CD drive tells of its disc and of itself: tables of contents, disc and track information,
 * DVD structures, features. MMC-6 (r02g).
 */
#include <string.h>

#include "base/bits.h"
#include "base/endian.h"
#include "dev/scsi/scsi_internal.h"

enum { ADR_DATA = 0x14, TRACK_LEAD_OUT = 0xaa, PROFILE_CD = 8, PROFILE_DVD = 16 };

/* ---- READ TOC/PMA/ATIP (6.25) ---- */

static void toc_put_address(uint8_t *at, uint32_t lba, bool msf)
{
    if (msf) {
        scsi_cd_put_msf(at + 1, lba);
    } else {
        store_be32(at, lba);
    }
}

static unsigned toc_put_track(uint8_t *at, uint8_t track, uint32_t lba, bool msf)
{
    at[1] = ADR_DATA;
    at[2] = track;
    toc_put_address(at + 4, lba, msf);
    return 8;
}

static unsigned toc_tracks(struct scsi_lu *lu, uint8_t *b, uint8_t from, bool msf)
{
    unsigned len = 4;
    if (from > 1 && from != TRACK_LEAD_OUT) {
        return 0;
    }
    if (from <= 1) {
        len += toc_put_track(b + len, 1, 0, msf);
    }
    len += toc_put_track(b + len, TRACK_LEAD_OUT, (uint32_t)scsi_blocks(lu), msf);
    b[2] = b[3] = 1;
    return len;
}

static unsigned toc_session(struct scsi_lu *lu, uint8_t *b, uint8_t from, bool msf)
{
    b[2] = b[3] = 1;
    return 4 + toc_put_track(b + 4, 1, 0, msf);
}

static unsigned toc_put_point(uint8_t *at, uint8_t point, uint8_t m, uint8_t s, uint8_t f)
{
    at[0] = 1;
    at[1] = ADR_DATA;
    at[3] = point;
    at[8] = m;
    at[9] = s;
    at[10] = f;
    return 11;
}

static unsigned toc_full(struct scsi_lu *lu, uint8_t *b, uint8_t from, bool msf)
{
    uint8_t end[3];
    unsigned len = 4;
    scsi_cd_put_msf(end, (uint32_t)scsi_blocks(lu));
    b[2] = b[3] = 1;
    len += toc_put_point(b + len, 0xa0, 1, 0, 0);
    len += toc_put_point(b + len, 0xa1, 1, 0, 0);
    len += toc_put_point(b + len, 0xa2, end[0], end[1], end[2]);
    len += toc_put_point(b + len, 1, 0, 2, 0);
    return len;
}

void scsi_cd_read_toc(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    static unsigned (*const formats[])(struct scsi_lu *, uint8_t *, uint8_t,
                                       bool) = {toc_tracks, toc_session, toc_full};
    const uint8_t *c = cmd->cdb;
    unsigned format = c[2] & 15 ? c[2] & 15 : c[9] >> 6; /* SFF-8020 had it in byte 9 */
    unsigned len = 0;
    if (format < ARRAY_LEN(formats)) {
        len = formats[format](lu, cmd->buf, c[6], c[1] & 2);
    }
    if (!len) {
        scsi_bad_field(cmd);
        return;
    }
    store_be16(cmd->buf, (uint16_t)(len - 2));
    scsi_reply(cmd, len, load_be16(c + 7));
}

/* ---- READ DISC INFORMATION (6.21), READ TRACK INFORMATION (6.26) ---- */

void scsi_cd_read_disc_info(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t *b = cmd->buf;
    if (cmd->cdb[1] & 7) {
        scsi_bad_field(cmd);
        return;
    }
    store_be16(b, 32);
    b[2] = 0x0e; /* complete, and so is the last session */
    b[3] = b[4] = b[5] = b[6] = 1;
    b[7] = 0x20; /* unrestricted use */
    scsi_reply(cmd, 34, load_be16(cmd->cdb + 7));
}

void scsi_cd_read_track_info(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t *b = cmd->buf;
    uint32_t n = load_be32(cmd->cdb + 2), kind = cmd->cdb[1] & 3;
    if (kind == 3 || (kind && n != 1) || (!kind && !scsi_range_ok(lu, n, 1))) {
        scsi_bad_field(cmd);
        return;
    }
    store_be16(b, 34);
    b[2] = b[3] = 1;
    b[5] = 4; /* data */
    b[6] = 1; /* mode 1 */
    store_be32(b + 24, (uint32_t)scsi_blocks(lu));
    scsi_reply(cmd, 36, load_be16(cmd->cdb + 7));
}

/* ---- READ DVD STRUCTURE (6.22) ---- */

static unsigned dvd_physical(struct scsi_lu *lu, uint8_t *b)
{
    b[4] = 1;    /* DVD-ROM, version 1 */
    b[5] = 0x0f; /* 120 mm, rate not specified */
    b[6] = 1;    /* one layer, embossed */
    store_be32(b + 8, 0x30000);
    store_be32(b + 12, 0x30000 + (uint32_t)scsi_blocks(lu) - 1);
    return 4 + 2048;
}

static unsigned dvd_copyright(struct scsi_lu *lu, uint8_t *b)
{
    return 4 + 4; /* no protection, all regions */
}

static unsigned dvd_manufacturing(struct scsi_lu *lu, uint8_t *b)
{
    return 4 + 2048;
}

struct dvd_format {
    uint8_t code;
    unsigned (*put)(struct scsi_lu *, uint8_t *);
};

static const struct dvd_format dvd_formats[] = {
    {0, dvd_physical}, {1, dvd_copyright}, {4, dvd_manufacturing}};

static unsigned dvd_list(struct scsi_lu *lu, uint8_t *b)
{
    static const uint16_t sizes[] = {2052, 8, 2052};
    for (unsigned i = 0; i < ARRAY_LEN(dvd_formats); i++) {
        uint8_t *at = b + 4 + 4 * i;
        at[0] = dvd_formats[i].code;
        at[1] = 0x40; /* can be read */
        store_be16(at + 2, sizes[i]);
    }
    return 4 + 4 * ARRAY_LEN(dvd_formats);
}

void scsi_cd_read_dvd_structure(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t format = cmd->cdb[7];
    unsigned len = format == 0xff ? dvd_list(lu, cmd->buf) : 0;
    if (!scsi_cd_is_dvd(lu) && format < 0x80) {
        scsi_fail(cmd, SENSE_ILLEGAL, 0x3002); /* cannot read medium, incompatible format */
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(dvd_formats); i++) {
        if (dvd_formats[i].code == format && !cmd->cdb[6]) {
            len = dvd_formats[i].put(lu, cmd->buf);
        }
    }
    if (!len || (cmd->cdb[1] & 15)) {
        scsi_bad_field(cmd);
        return;
    }
    store_be16(cmd->buf, (uint16_t)(len - 2));
    scsi_reply(cmd, len, load_be16(cmd->cdb + 8));
}

/* ---- GET CONFIGURATION (6.5), features (5.3) ---- */

enum { CURRENT = 1, PERSISTENT = 2, WITH_CD = 4, WITH_DVD = 8 };

struct cd_feature {
    uint16_t code;
    uint8_t version, flags, len;
    uint8_t data[8];
};

static const struct cd_feature cd_features[] = {
    {0x0000, 0, CURRENT | PERSISTENT, 8, {0, PROFILE_DVD, 0, 0, 0, PROFILE_CD, 0, 0}},
    {0x0001, 2, CURRENT | PERSISTENT, 8, {0, 0, 0, 2, 1, 0, 0, 0}}, /* core: ATAPI, DBE */
    {0x0002, 1, CURRENT | PERSISTENT, 4, {2, 0, 0, 0}},             /* morphing */
    {0x0003, 0, CURRENT | PERSISTENT, 4, {0x29, 0, 0, 0}},          /* tray, ejects, locks */
    {0x0010, 0, WITH_CD | WITH_DVD, 8, {0, 0, 8, 0, 0, 1, 0, 0}},   /* random readable */
    {0x001e, 2, WITH_CD, 4, {0, 0, 0, 0}},                          /* CD read */
    {0x001f, 0, WITH_DVD, 4, {0, 0, 0, 0}},                         /* DVD read */
    {0x0105, 0, CURRENT | PERSISTENT, 4, {0, 0, 0, 0}},             /* timeout */
};

static unsigned put_feature(const struct cd_feature *f, bool current, uint16_t profile, uint8_t *b)
{
    store_be16(b, f->code);
    b[2] = (uint8_t)(f->version << 2 | (f->flags & PERSISTENT) | (current ? 1 : 0));
    b[3] = f->len;
    memcpy(b + 4, f->data, f->len);
    for (unsigned i = 0; !f->code && i < f->len; i += 4) {
        b[4 + i + 2] = profile && b[4 + i + 1] == profile; /* the current profile */
    }
    return 4u + f->len;
}

void scsi_cd_get_configuration(struct scsi_lu *lu, struct scsi_cmd *cmd)
{
    uint8_t *b = cmd->buf, which = cmd->cdb[1] & 3;
    uint16_t from = load_be16(cmd->cdb + 2), profile = 0;
    unsigned len = 8, now = CURRENT;
    if (which == 3) {
        scsi_bad_field(cmd);
        return;
    }
    if (scsi_lu_ready(lu)) {
        profile = scsi_cd_is_dvd(lu) ? PROFILE_DVD : PROFILE_CD;
        now |= scsi_cd_is_dvd(lu) ? WITH_DVD : WITH_CD;
    }
    for (unsigned i = 0; i < ARRAY_LEN(cd_features); i++) {
        const struct cd_feature *f = &cd_features[i];
        bool wanted = which == 2   ? f->code == from
                      : which == 1 ? f->code >= from && (f->flags & now)
                                   : f->code >= from;
        if (wanted) {
            len += put_feature(f, f->flags & now, profile, b + len);
        }
    }
    store_be32(b, len - 4);
    store_be16(b + 6, profile);
    scsi_reply(cmd, len, load_be16(cmd->cdb + 7));
}
