/*
 * ACPI 6.4: processors in the MADT (5.2.12.2), which node they and memory belong to in the SRAT
 * (5.2.16), how far nodes are from one another in the SLIT (5.2.17). APIC IDs are below 255, so
 * that the x2APIC forms of the entries are not needed.
 */
#include "board/acpi_cpus.h"

#include "board/x86_board.h"
#include "core/machine.h"
#include "core/numa.h"
#include "dev/firmware/aml.h"

void acpi_madt_add_cpus(struct strbuf *sb, const struct machine *m)
{
    const struct topology *t = &m->config.topology;
    for (unsigned i = 0; i < t->max; i++) {
        aml_u16(sb, 8 << 8 | 0); /* local APIC */
        aml_u8(sb, (uint8_t)i);
        aml_u8(sb, (uint8_t)topology_apic_id(t, i));
        aml_u32(sb, i < m->config.vcpus);
    }
}

static void srat_add_cpus(struct strbuf *sb, const struct machine *m)
{
    const struct topology *t = &m->config.topology;
    for (unsigned i = 0; i < t->max; i++) {
        aml_u16(sb, 16 << 8 | 0); /* local APIC affinity */
        aml_u8(sb, m->config.numa->node_of[i]);
        aml_u8(sb, (uint8_t)topology_apic_id(t, i));
        aml_u32(sb, 1); /* enabled */
        aml_u32(sb, 0);
        aml_u32(sb, 0);
    }
}

static void srat_add_memory(struct strbuf *sb, unsigned node, uint64_t start, uint64_t end)
{
    if (end > start) {
        aml_u16(sb, 40 << 8 | 1); /* memory affinity */
        aml_u32(sb, node);
        aml_u16(sb, 0);
        aml_u64(sb, start);
        aml_u64(sb, end - start);
        aml_u32(sb, 0);
        aml_u32(sb, 1); /* enabled */
        aml_u64(sb, 0);
    }
}

/* What of [from, to) of the machine's memory lies in [start, end), which begins at `gpa`. */
static void srat_add_part(struct strbuf *sb, unsigned node, uint64_t from, uint64_t to,
                          uint64_t start, uint64_t end, uint64_t gpa)
{
    from = from > start ? from : start;
    to = to < end ? to : end;
    if (to > from) {
        srat_add_memory(sb, node, gpa + (from - start), gpa + (to - start));
    }
}

size_t acpi_build_srat(struct strbuf *sb, const struct x86_board *b)
{
    const struct numa *numa = b->machine->config.numa;
    uint64_t low = b->low_ram, at = 0;
    size_t table = acpi_table_begin(sb, "SRAT", 1);
    aml_u32(sb, 1); /* reserved, is to be 1 */
    aml_u64(sb, 0);
    srat_add_cpus(sb, b->machine);
    for (unsigned i = 0; i < numa->nodes; i++) {
        uint64_t to = at + numa->mem[i];
        srat_add_part(sb, i, at, to, 0, X86_BOARD_WINDOW, 0);
        srat_add_part(sb, i, at, to, X86_BOARD_WINDOW_END, low, X86_BOARD_WINDOW_END);
        srat_add_part(sb, i, at, to, low, low + b->high_ram, X86_BOARD_HIGH_RAM);
        at = to;
    }
    acpi_table_end(sb, table);
    return table;
}

size_t acpi_build_slit(struct strbuf *sb, const struct machine *m)
{
    const struct numa *numa = m->config.numa;
    size_t table = acpi_table_begin(sb, "SLIT", 1);
    aml_u64(sb, numa->nodes);
    for (unsigned i = 0; i < numa->nodes * numa->nodes; i++) {
        aml_u8(sb, numa->dist[i]);
    }
    acpi_table_end(sb, table);
    return table;
}
