/*
 * Capabilities: the list, MSI and MSI-X (PCI Local Bus 3.0 6.8), Express endpoints; and the
 * interrupt line. Message registers are read under the function's leaf lock.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/endian.h"
#include "dev/pci/pci.h"
#include "state/field.h"

enum {
    MSI_CONTROL = 2,
    MSI_ADDRESS = 4,
    MSI_DATA = 12,
    MSI_LEN = 14,
    MSI_ENABLE = 1,
    MSI_64BIT = 0x80,
    MSIX_CONTROL = 2,
    MSIX_TABLE = 4,
    MSIX_PBA = 8,
    MSIX_LEN = 12,
    MSIX_ENABLE = 0x8000,
    MSIX_MASK_ALL = 0x4000,
    ENTRY_ADDRESS = 0,
    ENTRY_DATA = 8,
    ENTRY_CONTROL = 12,
    ENTRY_SIZE = 16,
    EXPRESS_LEN = 0x3c,
};

unsigned pci_cap_add(struct pci_func *f, uint8_t id, unsigned len)
{
    unsigned at = f->next_cap;
    assert(at + len <= 256);
    f->next_cap = (at + len + 3) & ~3u;
    f->config[at] = id;
    f->config[at + 1] = f->config[PCI_CAPABILITY_LIST];
    f->config[PCI_CAPABILITY_LIST] = (uint8_t)at;
    f->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
    return at;
}

/* ---- The line ---- */

void pci_irq_set(struct pci_func *f, bool level)
{
    pthread_mutex_lock(&f->lock);
    f->level = level;
    bool off = load_le16(f->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
    uint8_t status = __atomic_load_n(&f->config[PCI_STATUS], __ATOMIC_RELAXED);
    status = level ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT;
    __atomic_store_n(&f->config[PCI_STATUS], status, __ATOMIC_RELAXED);
    irq_set(&f->intx, level && !off);
    pthread_mutex_unlock(&f->lock);
}

void pci_irq_or_msi(struct pci_func *f, bool level)
{
    if (!pci_msi_on(f)) {
        pci_irq_set(f, level);
    } else if (level) {
        pci_msi_notify(f, 0);
    }
}

/* ---- MSI ---- */

void pci_msi_add(struct pci_func *f, unsigned vectors)
{
    unsigned log = 0;
    while (1u << log < vectors) {
        log++;
    }
    f->msi = pci_cap_add(f, PCI_CAP_MSI, MSI_LEN);
    store_le16(f->config + f->msi + MSI_CONTROL, MSI_64BIT | log << 1);
    store_le16(f->writable + f->msi + MSI_CONTROL, MSI_ENABLE | 7 << 4);
    store_le32(f->writable + f->msi + MSI_ADDRESS, ~3u);
    store_le32(f->writable + f->msi + MSI_ADDRESS + 4, ~0u);
    store_le16(f->writable + f->msi + MSI_DATA, 0xffff);
}

bool pci_msi_on(struct pci_func *f)
{
    return f->msi &&
           __atomic_load_n(&f->config[f->msi + MSI_CONTROL], __ATOMIC_RELAXED) & MSI_ENABLE;
}

static void pci_send(struct pci_func *f, gpa_t addr, uint32_t data)
{
    struct pci_root *r = f->bus->root;
    if (pci_dma(f)) {
        r->msi(r->msi_opaque, addr, data);
    }
}

void pci_msi_notify(struct pci_func *f, unsigned vector)
{
    if (!pci_msi_on(f)) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    const uint8_t *c = f->config + f->msi;
    unsigned granted = 1u << (load_le16(c + MSI_CONTROL) >> 4 & 7);
    gpa_t addr = load_le64(c + MSI_ADDRESS);
    uint32_t data = load_le16(c + MSI_DATA);
    pthread_mutex_unlock(&f->lock);
    pci_send(f, addr, (data & ~(granted - 1)) | (vector < granted ? vector : 0));
}

/* ---- MSI-X ---- */

static bool msix_masked(const struct pci_msix *x, unsigned n)
{
    uint16_t control = load_le16(x->func->config + x->cap + MSIX_CONTROL);
    return control & MSIX_MASK_ALL || x->table[n * ENTRY_SIZE + ENTRY_CONTROL] & 1;
}

/* Takes a pending message if nothing masks it any more; the leaf lock is held. */
static bool msix_take(struct pci_msix *x, unsigned n, gpa_t *addr, uint32_t *data)
{
    bool on = load_le16(x->func->config + x->cap + MSIX_CONTROL) & MSIX_ENABLE;
    if (!on || msix_masked(x, n) || !(x->pending[n / 8] >> n % 8 & 1)) {
        return false;
    }
    x->pending[n / 8] &= ~(1u << n % 8);
    *addr = load_le64(x->table + n * ENTRY_SIZE + ENTRY_ADDRESS);
    *data = load_le32(x->table + n * ENTRY_SIZE + ENTRY_DATA);
    return true;
}

static void msix_try(struct pci_msix *x, unsigned n)
{
    gpa_t addr;
    uint32_t data;
    pthread_mutex_lock(&x->func->lock);
    bool send = msix_take(x, n, &addr, &data);
    pthread_mutex_unlock(&x->func->lock);
    if (send) {
        pci_send(x->func, addr, data);
    }
}

static enum mem_result msix_table_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pci_msix *x = opaque;
    pthread_mutex_lock(&x->func->lock);
    *val = size == 8 ? load_le64(x->table + off) : load_le32(x->table + off);
    pthread_mutex_unlock(&x->func->lock);
    return MEM_OK;
}

static enum mem_result msix_table_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    struct pci_msix *x = opaque;
    pthread_mutex_lock(&x->func->lock);
    if (size == 8) {
        store_le64(x->table + off, val);
    } else {
        store_le32(x->table + off, (uint32_t)val);
    }
    pthread_mutex_unlock(&x->func->lock);
    msix_try(x, (unsigned)(off / ENTRY_SIZE));
    return MEM_OK;
}

static const struct mmio msix_table = {msix_table_read, msix_table_write, 4, 8};

static enum mem_result msix_pba_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    struct pci_msix *x = opaque;
    pthread_mutex_lock(&x->func->lock);
    *val = load_le64(x->pending + (off & ~7ull)) >> (off & 7) * 8;
    pthread_mutex_unlock(&x->func->lock);
    return MEM_OK;
}

static enum mem_result msix_pba_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    return MEM_OK; /* read only */
}

static const struct mmio msix_pba = {msix_pba_read, msix_pba_write, 4, 8};

void pci_msix_add(struct pci_func *f, unsigned count, unsigned n, uint32_t off, uint32_t pba_off)
{
    struct pci_msix *x = &f->msix;
    x->func = f;
    x->count = count;
    x->table_len = count * ENTRY_SIZE;
    x->pending_len = (count + 63) / 64 * 8;
    x->table = alloc_zero(x->table_len);
    x->pending = alloc_zero(x->pending_len);
    x->cap = pci_cap_add(f, PCI_CAP_MSIX, MSIX_LEN);
    store_le16(f->config + x->cap + MSIX_CONTROL, (uint16_t)(count - 1));
    store_le16(f->writable + x->cap + MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK_ALL);
    store_le32(f->config + x->cap + MSIX_TABLE, off | n);
    store_le32(f->config + x->cap + MSIX_PBA, pba_off | n);
    pci_bar_put_mmio(f, n, off, x->table_len, &msix_table, x);
    pci_bar_put_mmio(f, n, pba_off, x->pending_len, &msix_pba, x);
}

bool pci_msix_on(struct pci_func *f)
{
    return f->msix.cap &&
           __atomic_load_n(&f->config[f->msix.cap + MSIX_CONTROL + 1], __ATOMIC_RELAXED) &
               MSIX_ENABLE >> 8;
}

void pci_msix_notify(struct pci_func *f, unsigned vector)
{
    struct pci_msix *x = &f->msix;
    if (vector >= x->count) {
        return;
    }
    pthread_mutex_lock(&f->lock);
    x->pending[vector / 8] |= 1u << vector % 8;
    pthread_mutex_unlock(&f->lock);
    msix_try(x, vector);
}

/* ---- For the function's own files ---- */

bool pci_cap_written(struct pci_func *f, unsigned off, unsigned len)
{
    unsigned at = f->msix.cap + MSIX_CONTROL;
    if (!f->msix.cap || off >= at + 2 || off + len <= at) {
        return false;
    }
    for (unsigned i = 0; i < f->msix.count; i++) {
        msix_try(&f->msix, i); /* what waited for the mask */
    }
    return true;
}

void pci_cap_reset(struct pci_func *f)
{
    pthread_mutex_lock(&f->lock);
    if (f->msi) {
        memset(f->config + f->msi + MSI_ADDRESS, 0, MSI_LEN - MSI_ADDRESS);
        f->config[f->msi + MSI_CONTROL] &= ~(MSI_ENABLE | 7u << 4);
    }
    if (f->msix.cap) {
        f->config[f->msix.cap + MSIX_CONTROL + 1] &= ~((MSIX_ENABLE | MSIX_MASK_ALL) >> 8);
        memset(f->msix.table, 0, f->msix.table_len);
        memset(f->msix.pending, 0, f->msix.pending_len);
        for (unsigned i = 0; i < f->msix.count; i++) {
            f->msix.table[i * ENTRY_SIZE + ENTRY_CONTROL] = 1; /* masked */
        }
    }
    pthread_mutex_unlock(&f->lock);
}

void pci_cap_fini(struct pci_func *f)
{
    free(f->msix.table);
    free(f->msix.pending);
    f->msix = (struct pci_msix){0};
}

/* PCI Express Base 2.0 7.8: a root complex integrated endpoint on bus 0, else an endpoint. */
void pci_express_add(struct pci_func *f)
{
    if (!f->bus->express) {
        return;
    }
    unsigned at = pci_cap_add(f, PCI_CAP_EXPRESS, EXPRESS_LEN);
    store_le16(f->config + at + 2, f->bus->bridge ? 0x0002 : 0x0092);
    store_le32(f->config + at + 4, 1u << 15); /* role-based error reporting */
    store_le16(f->writable + at + 8, 0x7fef);
    if (f->bus->bridge) {
        store_le32(f->config + at + 12, 0x11); /* link: 2.5 GT/s, one lane */
        store_le16(f->config + at + 18, 0x11);
    }
}

/* ---- State ---- */

static const struct field pci_msix_list[] = {
    FIELD(struct pci_msix, count, FIELD_CONFIG),
    FIELD(struct pci_msix, cap, FIELD_CONFIG),
    FIELD_AT(struct pci_msix, table, table_len, FIELD_GUEST),
    FIELD_AT(struct pci_msix, pending, pending_len, FIELD_GUEST),
    FIELD(struct pci_msix, table_len, FIELD_CONFIG),
    FIELD(struct pci_msix, pending_len, FIELD_CONFIG),
    FIELD(struct pci_msix, func, FIELD_HOST),
};

FIELD_SET_SHARED(pci_msix_fields, "pci-msix", struct pci_msix, pci_msix_list, 1);
