/*
 * Programmable attribute map: Intel 440FX data sheet (290549) 3.2.18, the same in the MCH of Q35.
 * A segment's reads and writes go to RAM or to the bus. Reads from the bus with writes to RAM,
 * which firmware needs for moments only, are made access by access.
 */
#include "dev/chipset/pam.h"

#include "base/endian.h"
#include "core/machine.h"

enum { VGA_WINDOW = 0xa0000, VGA_WINDOW_SIZE = 0x20000 };

/* From the host's side the bus is ROM or nothing there: what firmware copies from. */
static enum mem_result shadow_read(void *opaque, uint64_t off, unsigned size, uint64_t *val)
{
    const struct pam_segment *s = opaque;
    const struct pam *p = s->pam;
    struct mem_hit hit;
    if (!mem_lookup(p->machine->mem, 0xfff00000 + s->start + off, &hit) || !hit.host) {
        return MEM_NONE;
    }
    *val = 0;
    for (unsigned i = 0; i < size; i++) {
        *val |= (uint64_t)hit.host[i] << 8 * i;
    }
    return MEM_OK;
}

static enum mem_result shadow_write(void *opaque, uint64_t off, unsigned size, uint64_t val)
{
    const struct pam_segment *s = opaque;
    uint8_t *at = s->pam->ram->host + s->start + off;
    for (unsigned i = 0; i < size; i++) {
        at[i] = val >> 8 * i & 0xff;
    }
    ram_wrote(s->pam->ram, s->start + off, size);
    return MEM_OK;
}

static const struct mmio shadow = {shadow_read, shadow_write, 1, 8};

void pam_init(struct pam *p, struct machine *m, struct ram *ram)
{
    p->machine = m;
    p->ram = m->smram_ram = ram;
    mem_map_begin(m->mem);
    for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
        struct pam_segment *s = &p->seg[i];
        s->pam = p;
        s->start = i ? 0xc0000 + (i - 1) * 0x4000u : 0xf0000;
        s->len = i ? 0x4000 : 0x10000;
        s->ram = mem_map_add_ram(m->mem, s->start, ram, s->start, s->len);
        s->rom = mem_map_add_rom(m->mem, s->start, ram, s->start, s->len);
        s->write_only = mem_map_add_mmio(m->mem, s->start, s->len, &shadow, s);
    }
    p->smram = mem_map_add_ram(m->mem, VGA_WINDOW, ram, VGA_WINDOW, VGA_WINDOW_SIZE);
    pam_update(p, (const uint8_t[PAM_REGISTERS]){0}, 0, false);
    mem_map_commit(m->mem);
}

void pam_update(struct pam *p, const uint8_t *regs, uint8_t smram, bool smm)
{
    mem_map_begin(p->machine->mem);
    for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
        struct pam_segment *s = &p->seg[i];
        /* PAM0 has f0000h in its high half, the others two segments each, the lower one low. */
        unsigned half = i ? (i - 1) & 1 : 1;
        unsigned attr = regs[i ? 1 + (i - 1) / 2 : 0] >> 4 * half & (PAM_READ | PAM_WRITE);
        mem_node_enable(s->ram, attr == (PAM_READ | PAM_WRITE));
        mem_node_enable(s->rom, attr == PAM_READ);
        mem_node_enable(s->write_only, attr == PAM_WRITE);
    }
    unsigned open = smram & (SMRAM_D_OPEN | SMRAM_D_CLS | SMRAM_G_SMRAME);
    mem_node_enable(p->smram, open == (SMRAM_D_OPEN | SMRAM_G_SMRAME));
    mem_map_commit(p->machine->mem);
    bool sees = smm && (smram & SMRAM_G_SMRAME);
    machine_set_smram(p->machine, 0, sees ? VGA_WINDOW : 0,
                      sees ? VGA_WINDOW + VGA_WINDOW_SIZE : 0);
}
